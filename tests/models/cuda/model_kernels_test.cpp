#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "models/branch_kernels.h"
#include "models/cross_entropy.h"
#include "models/cross_entropy_math.h"
#include "models/device_kernels.h"
#include "models/dropout.h"
#include "models/gradient_kernels.h"
#include "models/layer_norm.h"
#include "models/rms_norm.h"
#include "models/rotary.h"
#include "models/swiglu.h"
#include "tests/models/cuda/calls.h"
#include "tests/models/support/whole_model.h"

// The kernels of models on a GPU against what they stand for in fp64: over sizes and types, and places of memory.
namespace zerostep {
namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

// What a rounding to the type adds to a relative error.
double rounding(at::ScalarType type) { return type == at::kFloat ? 0x1p-24 : type == at::kBFloat16 ? 0x1p-8 : 0x1p-11; }

class ModelKernels : public ::testing::Test {
 protected:
  int64_t below(int64_t limit) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit)); }
  // A copy on the GPU that begins up to three elements behind an aligned place.
  at::Tensor on_gpu(const at::Tensor& t) {
    const int64_t shift = below(4);
    const at::Tensor memory = at::empty({t.numel() + shift}, at::TensorOptions().dtype(t.dtype()).device(kGpu));
    const at::Tensor out = memory.narrow(0, shift, t.numel()).view(t.sizes());
    out.copy_(t);
    return out;
  }
  std::mt19937_64 random_{11};
};

TEST_F(ModelKernels, LogarithmIsExactToFourUnits) {
  for (int i = 0; i < 200000; ++i) {
    const double x = std::exp(static_cast<double>(below(200000) - 100000) * 1e-4 + static_cast<double>(i) * 1e-9);
    const double exact = std::log(x);
    ASSERT_NEAR(logarithm(x), exact, 4 * 0x1p-52 * std::max(0.4, std::abs(exact))) << x;
  }
  EXPECT_EQ(logarithm(1), 0);
  EXPECT_EQ(logarithm(0), -INFINITY);
  EXPECT_EQ(logarithm(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(logarithm(NAN)));
}

TEST_F(ModelKernels, CrossEntropyInPartsIsThatOfItsDefinition) {
  at::manual_seed(3);
  for (const at::ScalarType type : kTypes)
    for (const int64_t vocabulary : {1, 7, 61, 2048, 4099, 9000}) {
      const int64_t rows = 1 + below(vocabulary > 1000 ? 9 : 80);
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(vocabulary) + " of " + toString(type));
      const at::Tensor logits = (at::randn({rows, vocabulary}) * 5).to(type);
      at::Tensor labels = at::randint(vocabulary, {rows}, at::kLong);
      if (rows > 2) labels[1] = -100;
      const at::Tensor wide = logits.to(at::kDouble).requires_grad_(), factor = at::full({}, 0.375);
      const at::Tensor expected = at::cross_entropy_loss(wide, labels, {}, at::Reduction::Sum);
      expected.backward(at::full({}, 0.375, at::kDouble));

      const at::Tensor there = on_gpu(labels);
      std::vector<LogitsPart> parts;
      for (int64_t first = 0; first < vocabulary;) {
        const int64_t columns = std::min(vocabulary - first, 1 + below(vocabulary));
        parts.push_back({on_gpu(logits.narrow(1, first, columns).contiguous()), there, first});
        first += columns;
      }
      const at::Tensor statistics = logit_statistics(parts[0].logits);
      const at::Tensor on_device = factor.to(kGpu);
      const testing::CountedCalls calls;
      for (const LogitsPart& part : parts) add_logits(part, statistics);
      const at::Tensor total = sum_losses(statistics, there);
      std::vector<at::Tensor> gradients;
      for (const LogitsPart& part : parts) {
        const bool in_place = below(2) == 0;
        gradients.push_back(in_place ? part.logits : at::full_like(part.logits, NAN));
        logits_gradient(part, statistics, on_device, gradients.back());
      }
      calls.expect_launches(2 * static_cast<int64_t>(parts.size()) + 1);

      // A lane adds up to columns / 256 + 8 numbers one after the other, then 13 sums of lanes and one for each part; an exponential is off
      // by 4 units (its argument's rounding, of up to 60, is the larger part of it) and rescaled once for each sum.
      const double bound = 0x1p-24 * (static_cast<double>(vocabulary) / 256 + 8 + 13 + 64 * static_cast<double>(parts.size() + 2));
      EXPECT_NEAR(total.item<double>(), expected.item<double>(), static_cast<double>(rows) * bound);
      for (at::Tensor& g : gradients) g = g.cpu();
      const at::Tensor found = at::cat(gradients, 1).to(at::kDouble);
      // Each is a probability less one at the label; in fp16 what is below 2^-14 is a multiple of 2^-24.
      const double distance = (found - wide.grad()).abs().max().item<double>();
      EXPECT_LT(distance, 0.375 * (bound + rounding(type)) + (type == at::kHalf ? 0x1p-25 : 0));
      if (rows > 2) {
        EXPECT_EQ(found[1].abs().max().item<double>(), 0);
      }
    }
}

// Rows at the ends of fp32, and with what is no number, which is seen where such a row counts.
TEST_F(ModelKernels, CrossEntropyOfExtremeRows) {
  constexpr float kMost = 3e38f, kInfinity = INFINITY;
  constexpr int64_t kNone = kIgnoredLabel;
  const at::Tensor logits =
      at::tensor({kMost, -kMost, 0.0f, -kInfinity, 5.0f, -kInfinity, -kMost, -kMost, -kMost, NAN, 0.0f, 0.0f}).view({4, 3}).to(kGpu);
  const auto loss = [&](std::vector<int64_t> labels) {
    const at::Tensor there = at::tensor(labels, at::kLong).to(kGpu), statistics = logit_statistics(logits);
    add_logits({logits, there}, statistics);
    return sum_losses(statistics, there).item<double>();
  };
  EXPECT_EQ(loss({0, 1, kNone, kNone}), 0);
  EXPECT_EQ(loss({1, kNone, kNone, kNone}), 2 * double{kMost});
  EXPECT_EQ(loss({kNone, 0, kNone, kNone}), INFINITY);
  EXPECT_NEAR(loss({kNone, kNone, 2, kNone}), std::log(3), 1e-6);
  EXPECT_TRUE(std::isnan(loss({kNone, kNone, kNone, 1})));
  EXPECT_EQ(loss({kNone, kNone, kNone, kNone}), 0);
  for (const int64_t absent : {3, -1}) EXPECT_TRUE(std::isnan(loss({absent, kNone, kNone, kNone})));
}

// Sums of n numbers in fp32 in any order are off by at most n u of the sum of their sizes; a 16-bit table's rows are rounded once more.
TEST_F(ModelKernels, RowsOfATableAreSumsOfSegments) {
  at::manual_seed(5);
  for (const at::ScalarType type : kTypes)
    for (const at::ScalarType table_type : {at::kFloat, type})
      for (const int64_t count : {1, 31, 32, 33, 64, 200, 1000}) {
        // Many different ones, a few, and one that fills whole segments.
        const int64_t rows_of_table = std::vector<int64_t>{500, 3, 1}[static_cast<size_t>(below(3))], columns = 1 + below(40);
        SCOPED_TRACE(std::to_string(count) + " rows of " + toString(type) + " into " + std::to_string(rows_of_table) + " of " +
                     toString(table_type));
        const at::Tensor rows = at::randn({count, columns}).to(type), indices = at::randint(rows_of_table, {count}, at::kLong);
        const at::Tensor before = at::randn({rows_of_table, columns}).to(table_type);
        const at::Tensor expected = before.to(at::kDouble).index_add_(0, indices, rows.to(at::kDouble));
        const at::Tensor sizes = before.to(at::kDouble).abs().index_add_(0, indices, rows.to(at::kDouble).abs());
        const at::Tensor table = on_gpu(before), given = on_gpu(rows), places = on_gpu(indices);
        const testing::CountedCalls calls;
        add_rows(table, places, given);
        calls.expect_launches(count > 32 ? 2 : 1);
        const at::Tensor errors = (table.cpu().to(at::kDouble) - expected).abs();
        const at::Tensor bounds = sizes * (0x1p-24 * static_cast<double>(count + 1)) +
                                  (table_type == at::kFloat ? at::zeros_like(expected) : expected.abs() * rounding(table_type) + 0x1p-24);
        EXPECT_TRUE(errors.le(bounds).all().item<bool>());
        EXPECT_TRUE(
            at::equal(table.cpu().index({sizes.eq(before.to(at::kDouble).abs())}), before.index({sizes.eq(before.to(at::kDouble).abs())})));
      }
}

// Of values of a size around 1 whose mean is no larger than a few deviations: each operation and each sum of eight, of 13 levels of lanes
// and of a lane's up to nine vectors adds at most a unit of 2^-24, and the sums over 32 rows and over groups of them a few more.
constexpr double kNormBound = 4e-6;

TEST_F(ModelKernels, NormsAndTheirGradientsAreThoseOfFp64) {
  at::manual_seed(6);
  for (const at::ScalarType type : kTypes)
    for (const int64_t width : {1, 7, 24, 96, 1025, 2056})
      for (const int64_t n : {int64_t{1}, int64_t{32}, int64_t{75}}) {
        if (width > 1000 && n > 32) continue;
        SCOPED_TRACE(std::to_string(n) + " x " + std::to_string(width) + " of " + toString(type));
        const double bound = kNormBound + 2 * rounding(type);
        const at::Tensor rows = (at::randn({n, width}) * 2 + 1).to(type), gradient = at::randn({n, width}).to(type);
        const at::Tensor gain = at::rand({width}) + 0.5, offset = at::randn({width});
        const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble).requires_grad_(); };
        const auto expect_near = [&](const at::Tensor& found, const at::Tensor& expected, double largest, const char* what) {
          // Of one column, all of a LayerNorm's gradient is rounding: it is compared with what went in.
          const double size = expected.norm().item<double>() + gradient.to(at::kDouble).norm().item<double>();
          EXPECT_LT((found.cpu().to(at::kDouble) - expected).norm().item<double>(), largest * size) << what;
        };
        const at::Tensor x = wide(rows), g = wide(gain), o = wide(offset), expected = at::layer_norm(x, {width}, g, o, 1e-2);
        expected.backward(gradient.to(at::kDouble));
        const at::Tensor there = on_gpu(rows), of_there = on_gpu(gradient);
        const at::Tensor gain_there = on_gpu(gain).requires_grad_(), offset_there = on_gpu(offset).requires_grad_();
        const at::NoGradGuard no_grad;
        const Norm norm{gain_there, offset_there, 1e-2};
        ParameterGradient of_gain(gain_there), of_offset(offset_there), frozen(on_gpu(gain)), alone(on_gpu(offset));
        const testing::CountedCalls calls;
        const Normalised normalised = normalise(there, norm);
        const at::Tensor of_rows = normalise_backward(of_there, there, normalised, norm, of_gain, of_offset, true);
        const at::Tensor by_itself = normalise_backward(of_there, there, normalised, norm, frozen, alone, true);
        calls.expect_launches(3);
        EXPECT_TRUE(at::equal(by_itself.cpu(), of_rows.cpu()));
        expect_near(normalised.rows, expected, bound, "rows");
        expect_near(of_rows, x.grad(), bound, "gradient");
        expect_near(of_gain.autograd_value(), g.grad(), kNormBound, "gain");
        expect_near(of_offset.autograd_value(), o.grad(), kNormBound, "offset");

        const at::Tensor y = wide(rows), h = wide(gain);
        const at::Tensor root = [&] {
          const at::AutoGradMode graph(true);
          const at::Tensor out = y * (y.pow(2).mean(-1, true) + 1e-3).rsqrt() * h;
          out.backward(gradient.to(at::kDouble));
          return out;
        }();
        const at::Tensor replaced = on_gpu(gradient), of_rms = at::full({width}, NAN).to(kGpu), kept = on_gpu(gradient);
        expect_near(rms_norm(there, gain_there, 1e-3), root, bound, "rms rows");
        rms_norm_backward_(replaced, there, gain_there, 1e-3, of_rms);
        rms_norm_backward_(kept, there, gain_there, 1e-3, {});
        EXPECT_TRUE(at::equal(kept.cpu(), replaced.cpu()));
        expect_near(replaced, y.grad(), bound, "rms gradient");
        expect_near(of_rms, h.grad(), kNormBound, "rms gain");
      }
}

// As on the processor, squares beyond fp32 leave a gradient that is no number.
TEST_F(ModelKernels, RowsBeyondFp32HaveNoGradientOfNorms) {
  const at::Tensor rows = at::tensor({1e25f, -1e25f, 1.0f, 2.0f}).view({2, 2}).to(kGpu), gain = at::ones({2}).to(kGpu);
  const at::Tensor gradient = at::ones({2, 2}).to(kGpu);
  const Norm norm{gain, at::zeros({2}).to(kGpu)};
  ParameterGradient of_gain(gain), of_offset(norm.offset);
  const at::Tensor of_rows = normalise_backward(gradient, rows, normalise(rows, norm), norm, of_gain, of_offset, true).cpu();
  rms_norm_backward_(gradient, rows, gain, 1e-5, {});
  for (const at::Tensor& found : {of_rows, gradient.cpu()}) {
    EXPECT_TRUE(found[0].isnan().all().item<bool>());
    EXPECT_TRUE(found[1].isfinite().all().item<bool>());
  }
}

TEST_F(ModelKernels, SwigluIsThatOfFp64AndRotationsAreTheProcessors) {
  at::manual_seed(7);
  for (const at::ScalarType type : kTypes)
    for (const int64_t count : {1, 7, 8, 3000}) {
      SCOPED_TRACE(std::to_string(count) + " of " + toString(type));
      at::Tensor gate = (at::randn({count}) * 4).to(type);
      if (count > 8) gate[0] = -200, gate[1] = 200, gate[2] = -87.5, gate[3] = 0;
      const at::Tensor up = at::randn({count}).to(type), gradient = at::randn({count}).to(type);
      const at::Tensor x = gate.to(at::kDouble).requires_grad_(), y = up.to(at::kDouble).requires_grad_(), expected = at::silu(x) * y;
      expected.backward(gradient.to(at::kDouble));
      const at::Tensor found = swiglu(on_gpu(gate), on_gpu(up)), value = on_gpu(gate), of_up = on_gpu(up), of_gate = on_gpu(gradient);
      swiglu_backward_(value, of_up, of_gate);
      // An exponential, a sum and a quotient, then products: 8 units; the slope is a sum of two numbers of a size up to |x| / 4. Below -87
      // the exponential stays what it is there, so that a value of a size of |x| e^-87 is left.
      const auto is_near = [&](const at::Tensor& f, const at::Tensor& e, const at::Tensor& size) {
        const at::Tensor errors = (f.cpu().to(at::kDouble) - e).abs();
        return errors.le(e.abs() * rounding(type) + size.abs() * 0x1p-21 + (type == at::kHalf ? 0x1p-25 : 1e-34)).all().item<bool>();
      };
      EXPECT_TRUE(is_near(found, expected, expected));
      EXPECT_TRUE(at::equal(value.cpu(), found.cpu()));
      EXPECT_TRUE(is_near(of_up, y.grad(), y.grad()));
      EXPECT_TRUE(is_near(of_gate, x.grad(), gradient.to(at::kDouble) * y * (1 + x.abs() / 4)));
    }
  for (const at::ScalarType type : kTypes)
    for (const int64_t half : {1, 4, 12, 33})
      for (const bool backwards : {false, true}) {
        const at::Tensor rows = at::randn({15, 3 * 2 * half}).to(type), there = on_gpu(rows);
        const Rotation rotation = make_rotation(at::rand({half}), at::arange(5) * 7);
        rotate_(there, {on_gpu(rotation.cosine), on_gpu(rotation.sine)}, backwards);
        rotate_(rows, rotation, backwards);
        EXPECT_TRUE(at::equal(there.cpu(), rows)) << half << " of " << toString(type);
      }
}

TEST_F(ModelKernels, RowsOfBranches) {
  at::manual_seed(8);
  constexpr int64_t kBranches = 3, kEach = 5, kAll = kBranches * kEach;
  for (const at::ScalarType type : kTypes)
    for (const int64_t width : {1, 7, 24, 100, 1030})
      for (const int64_t rank : {1, 4, 7}) {
        SCOPED_TRACE(std::to_string(width) + " of rank " + std::to_string(rank) + " of " + toString(type));
        const at::Tensor rows = at::randn({kAll, width}).to(type), shared = rows.narrow(0, 0, kEach);
        const at::Tensor factor = at::randn({kBranches, rank, width}), coefficients = at::randn({kAll, rank});
        const at::Tensor offset = at::randn({kBranches, width}), one = at::randn({1, width}), gain = at::rand({kBranches, width}) + 0.5;
        const auto there = [&](const BranchSum& s) {
          const auto moved = [&](const at::Tensor& t) { return t.defined() ? on_gpu(t) : t; };
          return BranchSum{moved(s.base), moved(s.offset), moved(s.coefficients), moved(s.factor)};
        };
        for (const BranchSum& sum : {BranchSum{rows, offset, coefficients, factor}, BranchSum{shared, one, coefficients, factor},
                                     BranchSum{{}, {}, coefficients, factor}, BranchSum{rows, {}, {}, {}}, BranchSum{{}, one, {}, {}}})
          EXPECT_TRUE(at::equal(branch_sum(there(sum), kAll, width, kBranches, type).cpu(), branch_sum(sum, kAll, width, kBranches, type)));
        const at::Tensor wide = rows.to(at::kDouble), by_branch = wide.view({kBranches, kEach, width});
        const at::Tensor projected = at::bmm(by_branch, factor.to(at::kDouble).transpose(1, 2)).view({kAll, rank});
        const at::Tensor sizes = at::bmm(by_branch.abs(), factor.to(at::kDouble).abs().transpose(1, 2)).view({kAll, rank});
        const at::Tensor errors = (branch_project(on_gpu(rows), on_gpu(factor)).cpu().to(at::kDouble) - projected).abs();
        // A product, three sums of eight, up to five vectors and five levels of lanes.
        EXPECT_TRUE(errors.le(sizes * 0x1p-24 * 14).all().item<bool>());
        for (const at::Tensor& given : {offset, one}) {
          const at::Tensor expected =
              (at::layer_norm(by_branch, {width}, {}, {}, 1e-2) * gain.to(at::kDouble).unsqueeze(1) + given.to(at::kDouble).unsqueeze(1))
                  .view({kAll, width});
          const at::Tensor found = branch_norm(on_gpu(rows), on_gpu(gain), on_gpu(given), 1e-2).cpu();
          EXPECT_LT((found.to(at::kDouble) - expected).norm().item<double>(),
                    (kNormBound + rounding(type)) * (expected.norm().item<double>() + 1));
        }
        const at::Tensor roots = (wide.pow(2).mean(-1, true) + 1e-2).rsqrt();
        const at::Tensor expected =
            ((wide * roots).view({kBranches, kEach, width}) * gain.to(at::kDouble).unsqueeze(1)).view({kAll, width});
        EXPECT_LT(relative_distance(rms_norm(on_gpu(rows), on_gpu(gain), 1e-2).cpu(), expected), kNormBound + rounding(type));
      }
}

// The library's kernel, and LibTorch's operations where there is none, against the processor's kernel.
TEST_F(ModelKernels, DropoutMasksAreTheProcessors) {
  Batch batch;
  for (int64_t i = 0; i < 300; ++i) batch.sample_ids.push_back(i < 150 ? 7 * i : 60000000000 - i);  // of several launches
  batch.tokens = at::zeros({300, 1}, at::kLong);
  const Dropout dropout(0.3, {&batch, true, 0xFEDCBA9876543210, (int64_t{1} << 39) + 5}, 900, 7);
  const DeviceKernels* const own = device_kernels(at::kCUDA);
  ASSERT_NE(own, nullptr);
  for (const DeviceKernels* kernels : {own, static_cast<const DeviceKernels*>(nullptr)}) {
    set_device_kernels(at::kCUDA, kernels);
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      for (const int64_t n : {1, 63, 64, 1000}) {  // samples that begin and end within a tile of noise
        const int64_t samples = kernels == nullptr ? 3 : 300;
        at::Tensor expected = at::randn({samples, n}).to(type);
        expected[0][0] = INFINITY;
        const at::Tensor found = on_gpu(expected), part = on_gpu(expected[2].clone());
        const testing::CountedCalls calls;
        dropout.apply_(found);
        dropout.apply_to_sample_(part, 2);
        if (kernels != nullptr) calls.expect_launches(4);
        dropout.apply_(expected);
        expected.nan_to_num_(1e4);
        EXPECT_TRUE(at::equal(found.cpu().nan_to_num(1e4), expected)) << n << " of " << toString(type);
        EXPECT_TRUE(at::equal(found.cpu().signbit(), expected.signbit()));
        EXPECT_TRUE(at::equal(part.cpu(), expected[2]));
      }
    }
  }
  set_device_kernels(at::kCUDA, own);
}

}  // namespace
}  // namespace zerostep
