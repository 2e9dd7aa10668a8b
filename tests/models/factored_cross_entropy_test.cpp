#include "models/factored_cross_entropy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "models/parameter_gradient.h"
#include "tests/models/support/whole_model.h"

namespace zerostep {
namespace {

// Of logits in fp64. In 16 bit each logit is rounded once, so that probabilities are off by that much of the largest logit.
TEST(FactoredCrossEntropy, IsThatOfTheProduct) {
  at::manual_seed(4);
  constexpr int64_t kRows = 37, kWidth = 16, kWords = 1000;
  at::Tensor labels = at::randint(kWords, {1, kRows}, at::kLong);
  labels.slice(1, 0, kRows, 5) = -100;
  for (const auto& [type, tolerance] : {std::pair{at::kFloat, 1e-5}, {at::kBFloat16, 3e-2}, {at::kHalf, 4e-3}}) {
    const at::Tensor rows = at::randn({1, kRows, kWidth}).to(type), matrix = (0.5 * at::randn({kWords, kWidth})).to(type);
    const at::Tensor wide_rows = rows.to(at::kDouble).requires_grad_(), wide_matrix = matrix.to(at::kDouble).requires_grad_();
    const at::Tensor expected = at::cross_entropy_loss(at::matmul(wide_rows[0], wide_matrix.t()), labels[0], {}, at::Reduction::Sum);
    expected.backward(at::full({}, 0.375, at::kDouble));
    for (const int64_t together : {int64_t{1}, 200 * kRows, kLogitsTogether}) {
      for (const bool fresh : {true, false}) {
        const at::Tensor x = rows.clone().requires_grad_(), w = matrix.clone().requires_grad_();
        w.mutable_grad() = at::full({kWords, kWidth}, 0.5f, at::TensorOptions().dtype(at::kFloat));
        mark_gradients({w}, fresh);
        const at::Tensor sum = factored_cross_entropy_sum({x, w}, labels, together);
        EXPECT_NEAR(sum.item<double>(), expected.item<double>(), tolerance * expected.item<double>());
        EXPECT_EQ(factored_cross_entropy({x, w}, labels, together).to(at::kFloat).item<float>(), sum.item<float>());
        sum.backward(at::full({}, 0.375f));
        EXPECT_EQ(x.grad().scalar_type(), type);
        EXPECT_LT(relative_distance(x.grad(), wide_rows.grad()), tolerance);
        EXPECT_LT(relative_distance(w.grad() - (fresh ? 0 : 0.5), wide_matrix.grad()), tolerance);
      }
    }
    // Frozen ones have none.
    const at::Tensor x = rows.clone().requires_grad_(), w = matrix.clone().requires_grad_();
    factored_cross_entropy_sum({x, matrix}, labels, 200 * kRows).backward(at::full({}, 0.375f));
    EXPECT_LT(relative_distance(x.grad(), wide_rows.grad()), tolerance);
    factored_cross_entropy_sum({rows, w}, labels, 200 * kRows).backward(at::full({}, 0.375f));
    EXPECT_LT(relative_distance(w.grad(), wide_matrix.grad()), tolerance);
  }
  EXPECT_ANY_THROW(factored_cross_entropy({at::zeros({2, 3}), at::zeros({5, 4})}, at::zeros({2}, at::kLong), 1));
  EXPECT_ANY_THROW(factored_cross_entropy({at::zeros({2, 3}), at::zeros({5, 3})}, at::zeros({3}, at::kLong), 1));
}

TEST(FactoredCrossEntropy, HoldsOnePartsLogits) {
  constexpr int64_t kRows = 1000, kWidth = 64, kWords = 50257;
  const ActivationCost whole = factored_cross_entropy_cost(kRows, kWidth, kWords, DType::BF16, kLogitsTogether),
                       parts = factored_cross_entropy_cost(kRows, kWidth, kWords, DType::BF16, kRows * 8192);
  EXPECT_EQ(whole.saved_bytes, 2 * kRows * kWords + 12 * kRows);
  // Seven parts of 7,232 columns, the first multiple of 64 above 50257 / 7.
  EXPECT_EQ(parts.saved_bytes, 2 * kRows * 7232 + 12 * kRows);
  EXPECT_EQ(parts.backward_transient_bytes, 4 * kRows * kWidth + 2 * 7232 * kWidth);
}

}  // namespace
}  // namespace zerostep
