#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "fake_gpu/fake_gpu.h"
#include "models/cross_entropy.h"
#include "models/cross_entropy_math.h"
#include "models/gradient_kernels.h"
#include "tests/models/support/whole_model.h"

// The kernels of models, whose bodies the fake GPU runs, against what they stand for in fp64: over sizes and types, and places of memory.
namespace zerostep {
namespace {

const at::Device kGpu(at::kCUDA, 0);
constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

// What a rounding to the type adds to a relative error.
double rounding(at::ScalarType type) { return type == at::kFloat ? 0x1p-24 : type == at::kBFloat16 ? 0x1p-8 : 0x1p-11; }

class ModelKernels : public testing::Test {
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
      std::vector<LogitsOfRows> parts;
      for (int64_t first = 0; first < vocabulary;) {
        const int64_t columns = std::min(vocabulary - first, 1 + below(vocabulary));
        parts.push_back({on_gpu(logits.narrow(1, first, columns).contiguous()), there, first});
        first += columns;
      }
      const at::Tensor statistics = logit_statistics(parts[0].logits);
      const at::Tensor on_device = factor.to(kGpu);
      const int64_t waits = fake_gpu::num_host_waits(), launches = fake_gpu::num_launches();
      for (const LogitsOfRows& part : parts) add_logits(part, statistics);
      const at::Tensor total = sum_losses(statistics, there);
      std::vector<at::Tensor> gradients;
      for (const LogitsOfRows& part : parts) {
        const bool in_place = below(2) == 0;
        gradients.push_back(in_place ? part.logits : at::full_like(part.logits, NAN));
        logits_gradient(part, statistics, on_device, gradients.back());
      }
      EXPECT_EQ(fake_gpu::num_launches() - launches, 2 * static_cast<int64_t>(parts.size()) + 1);
      EXPECT_EQ(fake_gpu::num_host_waits(), waits);

      // A lane adds up to columns / 256 + 8 numbers one after the other, then 13 sums of lanes and one for each part; an exponential is off
      // by 4 units (its argument's rounding, of up to 60, is the larger part of it) and rescaled once for each sum.
      const double bound = 0x1p-24 * (static_cast<double>(vocabulary) / 256 + 8 + 13 + 64 * static_cast<double>(parts.size() + 2));
      EXPECT_NEAR(total.item<double>(), expected.item<double>(), static_cast<double>(rows) * bound);
      for (at::Tensor& g : gradients) g = g.cpu();
      const at::Tensor found = at::cat(gradients, 1).to(at::kDouble);
      // Each is a probability less one at the label; in fp16 what is below 2^-14 is a multiple of 2^-24.
      const double distance = (found - wide.grad()).abs().max().item<double>();
      EXPECT_LT(distance, 0.375 * (bound + rounding(type)) + (type == at::kHalf ? 0x1p-25 : 0));
      if (rows > 2) EXPECT_EQ(found[1].abs().max().item<double>(), 0);
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
        const int64_t waits = fake_gpu::num_host_waits(), launches = fake_gpu::num_launches();
        add_rows(table, places, given);
        EXPECT_EQ(fake_gpu::num_host_waits(), waits);
        EXPECT_EQ(fake_gpu::num_launches() - launches, count > 32 ? 2 : 1);
        const at::Tensor errors = (table.cpu().to(at::kDouble) - expected).abs();
        const at::Tensor bounds = sizes * (0x1p-24 * static_cast<double>(count + 1)) +
                                  (table_type == at::kFloat ? at::zeros_like(expected) : expected.abs() * rounding(table_type) + 0x1p-24);
        EXPECT_TRUE(errors.le(bounds).all().item<bool>());
        EXPECT_TRUE(
            at::equal(table.cpu().index({sizes.eq(before.to(at::kDouble).abs())}), before.index({sizes.eq(before.to(at::kDouble).abs())})));
      }
}

}  // namespace
}  // namespace zerostep
