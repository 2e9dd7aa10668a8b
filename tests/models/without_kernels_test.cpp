#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/branch_functions.h"
#include "models/branch_kernels.h"
#include "models/device_kernels.h"
#include "models/dropout.h"
#include "models/gradient_kernels.h"
#include "models/kernel_rows.h"
#include "models/layer_norm.h"
#include "models/objective.h"
#include "models/product.h"
#include "models/rms_norm.h"
#include "models/rotary.h"
#include "models/swiglu.h"
#include "tests/models/support/whole_model.h"

// What LibTorch's operations do in the kernels' place, over operands that pass through in several parts. (The tests of the functions
// themselves, of all types, run without kernels too, with ZEROSTEP_TEST_WITHOUT_KERNELS.)
namespace zerostep {
namespace {

constexpr int64_t kWidth = 96, kRows = kPartElements / kWidth + 96;  // two parts, the second of them small

template <typename F>
TensorList both_ways(const F& f) {
  TensorList results = f();
  const WithoutKernels without;
  const TensorList others = f();
  results.insert(results.end(), others.begin(), others.end());
  return results;
}

template <typename F>
void expect_same(const F& f, double tolerance) {
  const TensorList results = both_ways(f);
  const size_t n = results.size() / 2;
  for (size_t i = 0; i < n; ++i) {
    EXPECT_EQ(results[n + i].scalar_type(), results[i].scalar_type());
    EXPECT_LT(relative_distance(results[n + i], results[i]), tolerance) << i;
  }
}

// fp32 sums differ in their order, by up to 10 kFloat where they have kRows values; a value of bf16 is rounded to one of two neighbours,
// 2^-8 apart.
constexpr double kFloat = 1e-6, kSixteen = 4e-3;

TEST(WithoutKernels, RmsNormIsTheSameInParts) {
  const at::Tensor gain = at::rand({kWidth}) + 0.5;
  const at::Tensor rows = at::randn({kRows, kWidth}), gradient = at::randn({kRows, kWidth});
  expect_same(
      [&] {
        at::Tensor of_rows = gradient.clone(), of_gain = at::full({kWidth}, NAN);
        rms_norm_backward_(of_rows, rows, gain, 1e-3, of_gain);
        EXPECT_FALSE(of_gain.isnan().any().item<bool>());
        return TensorList{rms_norm(rows, gain, 1e-3), of_rows, of_gain};
      },
      10 * kFloat);
}

// Against fp64: LibTorch's kernel for the CPU sums the gradients of gains in 16 bit.
TEST(WithoutKernels, LayerNormOfSixteenBitRowsHasFp32Gains) {
  const at::Tensor gain = (at::rand({kWidth}) + 0.5).requires_grad_(), offset = at::randn({kWidth}).requires_grad_();
  const at::Tensor rows = at::randn({kRows, kWidth}).to(at::kBFloat16), gradient = at::randn({kRows, kWidth}).to(at::kBFloat16);
  const auto wide = [](const at::Tensor& t) { return t.detach().to(at::kDouble).requires_grad_(); };
  const at::Tensor x = wide(rows), g = wide(gain), o = wide(offset), expected = at::layer_norm(x, {kWidth}, g, o, 1e-5);
  expected.backward(gradient.to(at::kDouble));
  const at::NoGradGuard no_grad;
  const WithoutKernels without;
  const Norm norm{gain, offset, 1e-5};
  const Normalised n = normalise(rows, norm);
  ParameterGradient of_gain(gain), of_offset(offset);
  const at::Tensor of_rows = normalise_backward(gradient, rows, n, norm, of_gain, of_offset, true);
  EXPECT_EQ(n.rows.scalar_type(), at::kBFloat16);
  EXPECT_LT(relative_distance(n.rows, expected), kSixteen);
  EXPECT_LT(relative_distance(of_rows, x.grad()), kSixteen);
  EXPECT_LT(relative_distance(of_gain.autograd_value(), g.grad()), 10 * kFloat);
  EXPECT_LT(relative_distance(of_offset.autograd_value(), o.grad()), 10 * kFloat);
}

TEST(WithoutKernels, SwigluAndRotationAreTheSameInParts) {
  const at::Tensor gate = at::randn({kRows, kWidth}), up = at::randn({kRows, kWidth}), gradient = at::randn({kRows, kWidth});
  const Rotation rotation = make_rotation(rotary_frequencies({}, kWidth / 4), at::arange(kRows));
  expect_same(
      [&] {
        const at::Tensor value = gate.clone(), of_up = up.clone(), of_gate = gradient.clone(), turned = gate.clone();
        swiglu_backward_(value, of_up, of_gate);
        rotate_(turned, rotation);
        return TensorList{swiglu(gate, up), value, of_up, of_gate, turned};
      },
      kFloat);
}

TEST(WithoutKernels, BranchesAreTheSameInParts) {
  const int64_t branches = 3, rank = 2, n = branches * (kRows / branches);
  const at::Tensor gain = at::rand({branches, kWidth}), offset = at::randn({1, kWidth}), factor = at::randn({branches, rank, kWidth}),
                   coefficients = at::randn({n, rank});
  const at::Tensor rows = at::randn({n, kWidth}), shared = rows.narrow(0, 0, n / branches);
  expect_same(
      [&] {
        return TensorList{branch_norm(rows, gain, offset, 1e-5), branch_project(rows, factor),
                          branch_sum({rows, offset, coefficients, factor}, n, kWidth, branches, at::kFloat),
                          branch_sum({shared, {}, coefficients, factor}, n, kWidth, branches, at::kFloat),
                          branch_sum({{}, gain, {}, {}}, n, kWidth, branches, at::kFloat)};
      },
      kFloat);
}

TEST(WithoutKernels, DropoutKeepsTheSameElements) {
  Batch batch;
  batch.sample_ids = {5, 60000000000};
  batch.tokens = at::zeros({2, 1}, at::kLong);
  const Dropout dropout(0.3, {&batch, true, 0xFEDCBA9876543210, (int64_t{1} << 39) + 5}, 900, 7);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t n : {int64_t{1}, int64_t{63}, int64_t{1000}, kPartElements + 77}) {  // samples that begin and end within a tile
      if (n > kPartElements && type != at::kFloat) continue;
      at::Tensor values = at::randn({2, n}).to(type);
      values[0][0] = NAN;
      const TensorList results = both_ways([&] {
        const at::Tensor copy = values.clone();
        dropout.apply_(copy);
        return TensorList{copy.nan_to_num(1e30)};
      });
      EXPECT_TRUE(at::equal(results[0], results[1])) << n << " of " << toString(type);
      EXPECT_TRUE(at::equal(results[0].signbit(), results[1].signbit()));
    }
  }
}

// weight + b in branch b, written where it is asked for.
class Raised final : public PerturbedMatrix {
 public:
  Raised(at::Tensor weight, int64_t branches) : weight_(std::move(weight)), branches_(branches) {}
  void write(const Part& part, float* const* out) const override {
    const at::Tensor values = weight_.narrow(0, part.row, part.rows).narrow(1, part.column, part.columns);
    for (int64_t b = 0; b < branches_; ++b) at::from_blob(out[b], values.sizes()).copy_(values + b);
  }

 private:
  at::Tensor weight_;
  int64_t branches_;
};

TEST(WithoutKernels, PerturbedMatricesAreWrittenInParts) {
  const at::NoGradGuard no_grad;
  const int64_t rows = 3 * kPartElements / (2 * 1024) + 5, branches = 2;  // of a table and of a head's matrix
  const at::Tensor weight = at::randn({rows, 1024});
  BranchPerturbation::Parameter tiled;
  tiled.tiled = std::make_shared<Raised>(weight, branches);
  const BranchPerturbation perturbation{branches, false, {tiled}};
  Batch batch;
  batch.tokens = at::tensor({int64_t{0}, rows - 1, int64_t{2047}, int64_t{2048}, int64_t{7}, int64_t{4096}}, at::kLong).view({2, 3});
  const at::Tensor x = at::randn({branches * 3, 1024});
  expect_same(
      [&] {
        const at::Tensor found = branch_lookup(batch.tokens, weight, tiled, perturbation);
        for (int64_t b = 0; b < branches; ++b) EXPECT_TRUE(at::equal(found.narrow(0, 2 * b, 2), at::embedding(weight, batch.tokens) + b));
        return TensorList{found, branch_affine(x, transposed_branch_matrix(weight, tiled), {}, {}, branches)};
      },
      kFloat);
}

struct Recorded final : DeviceKernels {
  void drop(const at::Tensor& values, const DropoutMask& mask, std::span<const int64_t> sample_ids) const override {
    EXPECT_EQ(mask.threshold, 0x40000000u);
    EXPECT_EQ(mask.scale, static_cast<float>(1 / 0.75));
    EXPECT_EQ(mask.key.stream, 3u * 16 + 2);
    ids.insert(ids.end(), sample_ids.begin(), sample_ids.end());
    values.neg_();
  }
  void add_logits(const LogitsPart&, const at::Tensor& statistics) const override { statistics.fill_(2); }
  void sum_losses(const at::Tensor& statistics, const at::Tensor&, const at::Tensor& total) const override {
    total.copy_(statistics.sum());
  }
  void logits_gradient(const LogitsPart&, const at::Tensor&, const at::Tensor& factor, const at::Tensor& gradient) const override {
    gradient.copy_(factor.expand_as(gradient));
  }
  void add_rows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order, const at::Tensor& rows) const override {
    for (int64_t i = 0; i < rows.size(0); ++i) table[sorted[i].item<int64_t>()].add_(rows[order[i].item<int64_t>()], 2);
  }
  void layer_norm(const at::Tensor&, const at::Tensor&, const at::Tensor&, double, const at::Tensor& out, const at::Tensor& mean,
                  const at::Tensor& rstd) const override {
    out.fill_(1);
    if (mean.defined()) mean.fill_(2), rstd.fill_(3);
  }
  void layer_norm_backward(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                           const at::Tensor& out, const at::Tensor& sums) const override {
    out.fill_(4);
    sums[0].fill_(5);
    sums[1].fill_(6);
  }
  void rms_norm(const at::Tensor&, const at::Tensor&, double, const at::Tensor& out) const override { out.fill_(7); }
  void rms_norm_backward(const at::Tensor& gradient, const at::Tensor&, const at::Tensor&, double,
                         const at::Tensor& gain_gradient) const override {
    gradient.fill_(8);
    gain_gradient.fill_(9);
  }
  void swiglu(const at::Tensor&, const at::Tensor&, const at::Tensor& out) const override { out.fill_(10); }
  void swiglu_backward(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient) const override {
    gate.fill_(11);
    up.fill_(12);
    gradient.fill_(13);
  }
  void rotate(const at::Tensor& rows, const at::Tensor&, const at::Tensor&, bool backwards) const override {
    rows.fill_(backwards ? 14 : 15);
  }
  void branch_project(const at::Tensor&, const at::Tensor&, const at::Tensor& out) const override { out.fill_(16); }
  void branch_sum(const BranchSum&, int64_t branches, const at::Tensor& out) const override { out.fill_(15 + branches); }
  mutable std::vector<int64_t> ids;
};

TEST(WithoutKernels, ADevicesOwnKernelsComeFirst) {
  Batch batch;
  batch.sample_ids = {9, 4};
  batch.tokens = at::zeros({2, 1}, at::kLong);
  const Dropout dropout(0.25, {&batch, true, 11, 12}, 3, 2);
  const at::Tensor values = at::ones({2, 7});
  EXPECT_EQ(device_kernels(at::kCPU), nullptr);
  const Recorded kernels;
  set_device_kernels(at::kCPU, &kernels);
  {
    const WithoutKernels without;
    dropout.apply_(values);
    dropout.apply_to_sample_(values[1], 1);
    const at::Tensor table = at::zeros({3, 2});
    add_rows(table, at::tensor({2, 0, 2}, at::kLong), at::arange(6).view({3, 2}).to(at::kFloat));
    EXPECT_TRUE(at::equal(table, at::tensor({4.0f, 6.0f, 0.0f, 0.0f, 8.0f, 12.0f}).view({3, 2})));
    const at::NoGradGuard no_grad;
    const auto is = [](const at::Tensor& t, double value) { return t.eq(value).all().item<bool>(); };
    const at::Tensor rows = at::zeros({4, 6}), gain = at::ones({6}).requires_grad_(), offset = at::zeros({6}).requires_grad_();
    const Norm norm{gain, offset};
    const Normalised normalised = normalise(rows, norm);
    EXPECT_TRUE(is(normalised.rows, 1) && is(normalised.mean, 2) && is(normalised.rstd, 3));
    ParameterGradient of_gain(gain), of_offset(offset);
    EXPECT_TRUE(is(normalise_backward(rows, rows, normalised, norm, of_gain, of_offset, true), 4));
    EXPECT_TRUE(is(of_gain.autograd_value(), 5) && is(of_offset.autograd_value(), 6));
    EXPECT_TRUE(is(branch_norm(rows, at::ones({2, 6}), at::ones({1, 6}), 1e-5), 1));
    EXPECT_TRUE(is(rms_norm(rows, gain, 1e-5), 7));
    const at::Tensor gradient = rows.clone(), of_rms = at::zeros({6});
    rms_norm_backward_(gradient, rows, gain, 1e-5, of_rms);
    EXPECT_TRUE(is(gradient, 8) && is(of_rms, 9));
    EXPECT_TRUE(is(swiglu(rows, rows), 10));
    const at::Tensor gate = rows.clone(), up = rows.clone();
    swiglu_backward_(gate, up, gradient);
    EXPECT_TRUE(is(gate, 11) && is(up, 12) && is(gradient, 13));
    rotate_(gate, make_rotation(at::ones({3}), at::arange(2)), true);
    EXPECT_TRUE(is(gate, 14));
    EXPECT_TRUE(is(branch_project(rows, at::zeros({2, 3, 6})), 16));
    EXPECT_TRUE(is(branch_sum({rows, {}, {}, {}}, 4, 6, 2, at::kFloat), 17));
  }
  {
    const WithoutKernels without;
    const at::Tensor logits = at::zeros({2, 3, 5}).requires_grad_();
    Batch labelled;
    labelled.labels = at::zeros({2, 3}, at::kLong);
    const at::Tensor sum = make_cross_entropy()->sum(labelled, {logits});
    EXPECT_EQ(sum.item<float>(), 2 * 3 * 6);
    sum.backward(at::full({}, 3.0f));
    EXPECT_TRUE(at::equal(logits.grad(), at::full({2, 3, 5}, 3.0f)));
  }
  set_device_kernels(at::kCPU, nullptr);
  EXPECT_EQ(kernels.ids, (std::vector<int64_t>{9, 4, 4}));
  EXPECT_TRUE(at::equal(values[0], -at::ones({7})) && at::equal(values[1], at::ones({7})));
}

}  // namespace
}  // namespace zerostep
