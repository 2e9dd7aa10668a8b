#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "models/attention.h"
#include "models/kernel_rows.h"
#include "models/layer_norm.h"
#include "models/rms_norm.h"
#include "models/swiglu.h"
#include "tests/models/support/whole_model.h"

// Functions of rows without a graph against LibTorch's in float64.
namespace zerostep {
namespace {

class RowFunctions : public testing::TestWithParam<at::ScalarType> {
 protected:
  double tolerance() const { return GetParam() == at::kFloat ? 2e-6 : GetParam() == at::kHalf ? 2e-3 : 1e-2; }
  at::Tensor random(std::vector<int64_t> shape, double scale = 1) const { return (at::randn(shape) * scale).to(GetParam()); }
  void TearDown() override { at::set_num_threads(1); }
};

at::Tensor wide(const at::Tensor& t) { return t.to(at::kDouble).detach().requires_grad_(); }

at::Tensor plain_rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon) {
  return x * (x.pow(2).mean(-1, true) + epsilon).rsqrt() * gain;
}

TEST_P(RowFunctions, RmsNormAndItsGradientsAreRight) {
  for (const auto& [n, width] : {std::pair<int64_t, int64_t>{3, 5}, {130, 48}, {64, 33}}) {
    const at::Tensor rows = random({n, width}), gain = at::rand({width}) + 0.5, gradient = random({n, width});
    const at::Tensor x = wide(rows), g = wide(gain);
    const at::Tensor expected = plain_rms_norm(x, g, 1e-3);
    EXPECT_LT(relative_distance(rms_norm(rows, gain, 1e-3), expected), tolerance());
    expected.backward(gradient.to(at::kDouble));
    at::Tensor of_rows = gradient.clone(), of_gain = at::full({width}, NAN);
    rms_norm_backward_(of_rows, rows, gain, 1e-3, of_gain);
    EXPECT_LT(relative_distance(of_rows, x.grad()), tolerance());
    EXPECT_LT(relative_distance(of_gain, g.grad()), tolerance());
    at::Tensor alone = gradient.clone();
    rms_norm_backward_(alone, rows, gain, 1e-3, {});
    EXPECT_TRUE(at::equal(alone, of_rows));
  }
}

TEST_P(RowFunctions, RmsNormTakesAGainForEachBranch) {
  const at::Tensor rows = random({12, 20}), gains = at::rand({3, 20}) + 0.5;
  const at::Tensor all = rms_norm(rows, gains, 1e-5);
  for (int64_t b = 0; b < 3; ++b) {
    EXPECT_TRUE(at::equal(all.narrow(0, 4 * b, 4), rms_norm(rows.narrow(0, 4 * b, 4), gains[b], 1e-5)));
  }
}

TEST_P(RowFunctions, ThreadsChangeNoBit) {
  const at::Tensor rows = random({700, 96}), gain = at::rand({96}), gradient = random({700, 96});
  std::vector<at::Tensor> results;
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    at::Tensor of_rows = gradient.clone(), of_gain = at::empty({96});
    rms_norm_backward_(of_rows, rows, gain, 1e-5, of_gain);
    results.insert(results.end(), {rms_norm(rows, gain, 1e-5), of_rows, of_gain});
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(results[i], results[i + 3])) << i;
}

// Gradients of gain and offset are fp32 sums of fp32 products: rounding to 2^-24 in each, and in the mean and deviation of a row, gives
// some 1e-7 of their norm. The gradient of the rows is rounded once. Summed in 16 bit, 1,000 rows of bf16 are 3e-2 from it, 20,000 2e-1.
TEST(LayerNorm, ParametersOfSixteenBitRowsGatherGradientsInFp32) {
  const int64_t width = 64;
  at::manual_seed(8);
  for (const auto& [type, rounding] : {std::pair{at::kBFloat16, 0x1p-8}, {at::kHalf, 0x1p-11}}) {
    for (const int64_t n : {int64_t{1000}, int64_t{20000}}) {
      const at::Tensor rows = (at::randn({n, width}) * 2 + 1).to(type), gradient = at::randn({n, width}).to(type);
      const at::Tensor gain = (at::rand({width}) + 0.5).requires_grad_(), offset = at::randn({width}).requires_grad_();
      const at::Tensor x = wide(rows), g = wide(gain), o = wide(offset);
      at::layer_norm(x, {width}, g, o, 1e-5).backward(gradient.to(at::kDouble));
      std::vector<at::Tensor> results;
      for (const int threads : {1, 3}) {
        at::set_num_threads(threads);
        const at::NoGradGuard no_grad;
        const Norm norm{gain, offset, 1e-5};
        ParameterGradient of_gain(gain), of_offset(offset);
        const at::Tensor of_rows = normalise_backward(gradient, rows, normalise(rows, norm), norm, of_gain, of_offset, true);
        EXPECT_LT(relative_distance(of_rows, x.grad()), rounding);
        EXPECT_LT(relative_distance(of_gain.autograd_value(), g.grad()), 5e-6) << n << " " << threads;
        EXPECT_LT(relative_distance(of_offset.autograd_value(), o.grad()), 5e-6) << n << " " << threads;
        results.insert(results.end(), {of_rows, of_gain.autograd_value(), of_offset.autograd_value()});
      }
      at::set_num_threads(1);
      for (size_t i = 0; i < 3 && !WithoutKernels::is_alive(); ++i) EXPECT_TRUE(at::equal(results[i], results[i + 3])) << i;
    }
  }
}

// What is not wanted is left out, and changes nothing else. Rows of any width, and gradients that are not contiguous.
TEST(LayerNorm, GradientsOfSixteenBitRowsComeAlone) {
  at::manual_seed(9);
  for (const int64_t width : {int64_t{1}, int64_t{7}, int64_t{33}, int64_t{100}}) {
    const at::Tensor rows = at::randn({3, 30, width}).to(at::kHalf),
                     gradient = at::randn({1, 30, width}).to(at::kHalf).expand({3, 30, width});
    const at::Tensor gain = (at::rand({width}) + 0.5).requires_grad_(), offset = at::randn({width}).requires_grad_();
    const at::Tensor x = wide(rows), g = wide(gain), o = wide(offset);
    at::layer_norm(x, {width}, g, o, 1e-2).backward(gradient.to(at::kDouble));
    const at::NoGradGuard no_grad;
    const Norm norm{gain, offset, 1e-2};
    const Normalised normalised = normalise(rows, norm);
    ParameterGradient both(gain), of_offset(offset), alone(gain), frozen_gain(gain.detach()), frozen(offset.detach());
    const at::Tensor of_rows = normalise_backward(gradient, rows, normalised, norm, both, of_offset, true);
    EXPECT_LE((of_rows.to(at::kDouble) - x.grad()).norm().item<double>(),
              0x1p-11 * x.grad().norm().item<double>() + 1e-6 * gradient.norm().item<double>());
    EXPECT_LE((both.autograd_value() - g.grad()).norm().item<double>(), 2e-6 * (g.grad().norm().item<double>() + 1));
    EXPECT_LT(relative_distance(of_offset.autograd_value(), o.grad()), 2e-6);
    EXPECT_FALSE(normalise_backward(gradient, rows, normalised, norm, alone, frozen, false).defined());
    EXPECT_TRUE(at::equal(alone.autograd_value(), both.autograd_value()));
    EXPECT_TRUE(at::equal(normalise_backward(gradient, rows, normalised, norm, frozen_gain, frozen, true), of_rows));
  }
}

// A step of such rows is to be skipped, not made of zeros.
TEST(LayerNorm, RowsWhoseSquaresAreBeyondFp32HaveNoGradient) {
  const at::Tensor gain = at::ones({40}).requires_grad_(), offset = at::zeros({40}).requires_grad_();
  at::Tensor rows = at::randn({2, 40});
  rows[1].mul_(1e20);
  rows = rows.to(at::kBFloat16);
  const at::NoGradGuard no_grad;
  const Norm norm{gain, offset, 1e-5};
  const Normalised normalised = normalise(rows, norm);
  ParameterGradient of_gain(gain), of_offset(offset);
  const at::Tensor of_rows = normalise_backward(at::ones_like(rows), rows, normalised, norm, of_gain, of_offset, true);
  EXPECT_TRUE(of_rows[0].isfinite().all().item<bool>());
  EXPECT_TRUE(of_rows[1].isnan().all().item<bool>());
  EXPECT_TRUE(of_gain.autograd_value().isnan().all().item<bool>());
  const at::Tensor of_rms = at::ones_like(rows);
  rms_norm_backward_(of_rms, rows, gain, 1e-5, {});
  EXPECT_TRUE(of_rms[0].isfinite().all().item<bool>());
  EXPECT_TRUE(of_rms[1].isnan().all().item<bool>());
}

TEST_P(RowFunctions, SwigluAndItsGradientsAreRight) {
  const at::Tensor gate = random({7, 13}, 3), up = random({7, 13}), gradient = random({7, 13});
  at::Tensor at_ends = gate.clone();
  at_ends[0][0] = 200, at_ends[0][1] = -200;
  const at::Tensor g = wide(at_ends), u = wide(up);
  const at::Tensor expected = at::silu(g) * u;
  const at::Tensor found = swiglu(at_ends, up);
  EXPECT_LT(relative_distance(found, expected), tolerance());
  EXPECT_LT(std::abs(found[0][1].item<float>()), 1e-30);
  at::Tensor in_place = at_ends.clone();
  swiglu_(in_place, up);
  EXPECT_TRUE(at::equal(in_place, found));
  expected.backward(gradient.to(at::kDouble));
  at::Tensor value = at_ends.clone(), of_up = up.clone(), of_gate = gradient.clone();
  swiglu_backward_(value, of_up, of_gate);
  EXPECT_TRUE(at::equal(value, found));
  EXPECT_LT(relative_distance(of_up, u.grad()), tolerance());
  EXPECT_LT(relative_distance(of_gate, g.grad()), tolerance());
}

TEST_P(RowFunctions, AttentionWithSharedKeysAndItsGradientsAreRight) {
  const int64_t samples = 2, length = 9, width = 6;
  const auto heads = [&](int64_t n) { return random({samples, length, n, width}).transpose(1, 2); };
  at::Tensor padding = at::ones({samples, 1, 1, length}, at::kBool);
  padding[1].slice(2, 5) = false;
  const at::Tensor causal = at::ones({length, length}, at::kBool).tril().view({1, 1, length, length});
  const at::Tensor both = causal.logical_and(padding).logical_or(at::eye(length, at::kBool)).contiguous();
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{4, 4}, {6, 2}, {3, 1}}) {
    for (const at::Tensor& allowed : {at::Tensor(), causal, padding, both}) {
      const AttentionInput in{heads(queries), heads(keys), heads(keys), allowed.is_same(causal) ? at::Tensor() : allowed,
                              allowed.is_same(causal)};
      const at::Tensor q = wide(in.q), k = wide(in.k), v = wide(in.v);
      at::Tensor scores = q.matmul(k.repeat_interleave(queries / keys, 1).transpose(2, 3)) / std::sqrt(static_cast<double>(width));
      if (allowed.defined()) scores = scores.masked_fill(allowed.logical_not(), -INFINITY);
      const at::Tensor expected = scores.softmax(-1).matmul(v.repeat_interleave(queries / keys, 1));
      const Attended found = attend(in);
      EXPECT_LT(relative_distance(found.output, expected), tolerance());
      EXPECT_TRUE(found.output.transpose(1, 2).is_contiguous());
      const at::Tensor gradient = random({samples, length, queries, width}).transpose(1, 2);
      expected.backward(gradient.to(at::kDouble));
      const auto gradients = attend_backward(gradient, in, found);
      EXPECT_LT(relative_distance(gradients[0], q.grad()), 3 * tolerance());
      EXPECT_LT(relative_distance(gradients[1], k.grad()), 3 * tolerance());
      EXPECT_LT(relative_distance(gradients[2], v.grad()), 3 * tolerance());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RowFunctions, testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(at::toString(info.param)); });

}  // namespace
}  // namespace zerostep
