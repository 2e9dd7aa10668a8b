#include "models/gelu.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "models/kernel_rows.h"

namespace zerostep {
namespace {

TEST(TanhGelu, EqualsItsDefinitionAndItsDerivative) {
  const at::Tensor x =
      at::cat({at::linspace(-12, 12, 4001), at::tensor({0.0f, -0.0f, 1e-30f, -1e-6f, 80.0f, -80.0f, 1e4f, -1e4f})}).to(at::kFloat);
  const at::Tensor exact = x.to(at::kDouble).requires_grad_();
  const at::Tensor expected = at::gelu(exact, "tanh");
  expected.sum().backward();
  const at::Tensor value = tanh_gelu(x);
  EXPECT_LT((value - expected).abs().max().item<double>(), 1e-6);
  if (has_kernels(x)) {
    EXPECT_LT(((value - expected).abs() / (expected.abs() + 1e-3)).max().item<double>(), 1e-6);
  }
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

}  // namespace
}  // namespace zerostep
