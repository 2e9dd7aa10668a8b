#include "models/linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <thread>

#include "models/gelu.h"
#include "models/gradient_kernels.h"

namespace zerostep {
namespace {

struct Case {
  at::Tensor x, weight, bias;
};
Case make_case(at::ScalarType type = at::kFloat) {
  at::manual_seed(3);
  return {at::randn({2, 5, 12}).to(type).requires_grad_(), at::randn({12, 20}).to(type).requires_grad_(), at::randn({20}).requires_grad_()};
}

TEST(Linear, IsAddmmToTheBitWithoutPreassignedGradients) {
  const Case ours = make_case(), plain = make_case();
  const at::Tensor g = at::randn({2, 5, 20});
  const at::Tensor y = linear(ours.x, ours.weight, ours.bias);
  const at::Tensor expected = at::addmm(plain.bias, plain.x.view({10, 12}), plain.weight).view({2, 5, 20});
  EXPECT_TRUE(at::equal(y, expected));
  y.backward(g);
  expected.backward(g);
  EXPECT_TRUE(at::equal(ours.x.grad(), plain.x.grad()));
  EXPECT_TRUE(at::equal(ours.weight.grad(), plain.weight.grad()));
  EXPECT_TRUE(at::equal(ours.bias.grad(), plain.bias.grad()));
  // And again, adding.
  linear(ours.x, ours.weight, ours.bias).backward(g);
  at::addmm(plain.bias, plain.x.view({10, 12}), plain.weight).view({2, 5, 20}).backward(g);
  EXPECT_TRUE(at::equal(ours.weight.grad(), plain.weight.grad()));
  EXPECT_TRUE(at::equal(ours.bias.grad(), plain.bias.grad()));
}

TEST(Linear, WritesIntoPreassignedGradients) {
  Case plain = make_case(), ours = make_case();
  const at::Tensor g = at::randn({2, 5, 20});
  linear(plain.x, plain.weight, plain.bias).backward(g);
  const at::Tensor buffer = at::full({260}, NAN);
  ours.weight.mutable_grad() = buffer.narrow(0, 0, 240).view({12, 20});
  ours.bias.mutable_grad() = buffer.narrow(0, 240, 20);
  {
    const FreshGradients fresh(true);
    linear(ours.x, ours.weight, ours.bias).backward(g);
  }
  EXPECT_TRUE(at::equal(buffer.narrow(0, 0, 240).view({12, 20}), plain.weight.grad()));
  EXPECT_TRUE(at::equal(buffer.narrow(0, 240, 20), plain.bias.grad()));
  linear(ours.x, ours.weight, ours.bias).backward(g);
  linear(plain.x, plain.weight, plain.bias).backward(g);
  EXPECT_TRUE(at::equal(buffer.narrow(0, 0, 240).view({12, 20}), plain.weight.grad()));
  EXPECT_EQ(ours.weight.grad().data_ptr(), buffer.data_ptr());
}

TEST(Linear, FreshnessIsTheThreadsAndNests) {
  EXPECT_FALSE(FreshGradients::active());
  {
    const FreshGradients outer(true);
    EXPECT_TRUE(FreshGradients::active());
    {
      const FreshGradients inner(false);
      EXPECT_FALSE(FreshGradients::active());
    }
    EXPECT_TRUE(FreshGradients::active());
    std::thread([] { EXPECT_FALSE(FreshGradients::active()); }).join();
  }
  EXPECT_FALSE(FreshGradients::active());
}

TEST(Linear, FrozenPartsAndNoBias) {
  for (const int part : {0, 1, 2}) {
    Case ours = make_case(), plain = make_case();
    (part == 0 ? ours.x : part == 1 ? ours.weight : ours.bias).set_requires_grad(false);
    linear(ours.x, ours.weight, ours.bias).sum().backward();
    linear(plain.x, plain.weight, plain.bias).sum().backward();
    const auto check = [](const at::Tensor& found, const at::Tensor& expected, bool frozen) {
      EXPECT_EQ(found.grad().defined(), !frozen);
      if (!frozen) {
        EXPECT_TRUE(at::equal(found.grad(), expected.grad()));
      }
    };
    check(ours.x, plain.x, part == 0);
    check(ours.weight, plain.weight, part == 1);
    check(ours.bias, plain.bias, part == 2);
  }
  const Case c = make_case();
  EXPECT_TRUE(at::equal(linear(c.x, c.weight, at::Tensor()), at::matmul(c.x, c.weight)));
}

TEST(Linear, SixteenBitMatricesFillFp32Gradients) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    Case ours = make_case(type);
    ours.weight.mutable_grad() = at::full({12, 20}, NAN);
    ours.bias.mutable_grad() = at::full({20}, NAN);
    const at::Tensor g = at::randn({2, 5, 20}).to(type);
    {
      const FreshGradients fresh(true);
      linear(ours.x, ours.weight, ours.bias).backward(g);
    }
    const at::Tensor x = ours.x.detach().to(at::kDouble).view({10, 12}), wide = g.to(at::kDouble).view({10, 20});
    const at::Tensor expected = x.t().mm(wide);
    EXPECT_LT((ours.weight.grad() - expected).norm().item<double>() / expected.norm().item<double>(), type == at::kHalf ? 1e-3 : 5e-3);
    const at::Tensor sums = wide.sum(0);
    EXPECT_LT((ours.bias.grad() - sums).norm().item<double>() / sums.norm().item<double>(), 1e-6);  // summed in fp32
    EXPECT_EQ(ours.weight.grad().scalar_type(), at::kFloat);
  }
}

TEST(TanhGelu, EqualsItsDefinitionAndItsDerivative) {
  const at::Tensor x =
      at::cat({at::linspace(-12, 12, 4001), at::tensor({0.0f, -0.0f, 1e-30f, -1e-6f, 80.0f, -80.0f, 1e4f, -1e4f})}).to(at::kFloat);
  const at::Tensor exact = x.to(at::kDouble).requires_grad_();
  const at::Tensor expected = at::gelu(exact, "tanh");
  expected.sum().backward();
  const at::Tensor value = tanh_gelu(x);
  EXPECT_LT((value - expected).abs().max().item<double>(), 1e-6);
  EXPECT_LT(((value - expected).abs() / (expected.abs() + 1e-3)).max().item<double>(), 1e-6);
  const at::Tensor in_place = x.clone();
  tanh_gelu_(in_place);
  EXPECT_TRUE(at::equal(in_place, value));
  const at::Tensor inner = x.clone(), gradient = at::full_like(x, 2);
  tanh_gelu_backward_(inner, gradient);
  EXPECT_TRUE(at::allclose(inner, value, 1e-6, 1e-30));
  EXPECT_LT((gradient - 2 * exact.grad()).abs().max().item<double>(), 3e-6);
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const int64_t n : {1, 15, 16, 17, 333}) {  // vectors and what is left over
      const at::Tensor narrow = x.slice(0, 1800, 1800 + n).to(type);
      EXPECT_TRUE(at::equal(tanh_gelu(narrow), tanh_gelu(narrow.to(at::kFloat)).to(type)));
      const at::Tensor a = narrow.clone(), g = at::ones_like(a), a_wide = narrow.to(at::kFloat), g_wide = at::ones_like(a_wide);
      tanh_gelu_backward_(a, g);
      tanh_gelu_backward_(a_wide, g_wide);
      EXPECT_TRUE(at::equal(a, a_wide.to(type)));
      EXPECT_TRUE(at::equal(g, g_wide.to(type)));
    }
  }
  EXPECT_TRUE(std::isnan(tanh_gelu(at::full({1}, NAN)).item<float>()));
  EXPECT_TRUE(tanh_gelu(at::full({3}, NAN, at::kBFloat16)).isnan().all().item<bool>());
}

TEST(GradientKernels, SumsConversionsAndScatters) {
  at::manual_seed(5);
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const auto& [n, m] : {std::pair<int64_t, int64_t>{1, 1}, {7, 33}, {8, 16}, {29, 100}}) {
      const at::Tensor rows = at::randn({n, m}).to(type), before = at::randn({m});
      at::Tensor sums = at::full({m}, NAN);
      sum_rows(rows, sums, false);
      EXPECT_LT((sums - rows.to(at::kDouble).sum(0)).abs().max().item<double>(), 1e-5);
      at::Tensor added = before.clone();
      sum_rows(rows, added, true);
      EXPECT_LT((added - before - sums).abs().max().item<double>(), 1e-5);

      at::Tensor wide = at::full({n, m + 3}, 7.0f);
      convert_into(rows, wide.narrow(1, 2, m), false);
      EXPECT_TRUE(at::equal(wide.narrow(1, 2, m), rows.to(at::kFloat)));
      EXPECT_EQ(wide.narrow(1, 0, 2).sum().item<float>() + wide.narrow(1, m + 2, 1).sum().item<float>(), 7.0f * 3 * static_cast<float>(n));
      convert_into(rows, wide.narrow(1, 2, m), true);
      EXPECT_TRUE(at::equal(wide.narrow(1, 2, m), 2 * rows.to(at::kFloat)));

      const at::Tensor indices = at::randint(4, {n}, at::kLong);
      at::Tensor table = at::randn({4, m});
      const at::Tensor expected = table.clone().index_add_(0, indices, rows.to(at::kFloat));
      add_rows(table, indices, rows);
      EXPECT_LT((table - expected).abs().max().item<double>(), 1e-5);
    }
  }
  EXPECT_ANY_THROW(add_rows(at::zeros({2, 3}), at::tensor({2}, at::kLong), at::zeros({1, 3})));
}

}  // namespace
}  // namespace zerostep
