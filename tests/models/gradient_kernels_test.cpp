#include "models/gradient_kernels.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace zerostep {
namespace {

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

// Each sum is rounded once to the table's type, by at most 2^-8 (bf16) or 2^-11 (fp16) of itself. Added in 16 bit, 20,000 rows lose half of
// it in bf16.
TEST(GradientKernels, SixteenBitTablesGetRoundedSums) {
  at::manual_seed(6);
  for (const auto& [type, rounding] : {std::pair{at::kBFloat16, 0x1p-8}, {at::kHalf, 0x1p-11}}) {
    const int64_t n = 20000, m = 21, k = 5;
    const at::Tensor rows = (at::randn({n, m}) + 0.1).to(type), indices = at::randint(k - 2, {n}, at::kLong);
    at::Tensor table = at::randn({k, m}).to(type);
    const at::Tensor before = table.clone();
    const at::Tensor expected = table.to(at::kDouble).index_add_(0, indices, rows.to(at::kDouble));
    add_rows(table, indices, rows);
    const at::Tensor errors = (table.to(at::kDouble) - expected).abs();
    EXPECT_TRUE(errors.le(expected.abs() * rounding + 1e-3 * rounding).all().item<bool>()) << errors.max().item<double>();
    EXPECT_TRUE(at::equal(table.narrow(0, k - 2, 2), before.narrow(0, k - 2, 2)));
  }
}

}  // namespace
}  // namespace zerostep
