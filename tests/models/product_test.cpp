#include "models/product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

namespace zerostep {
namespace {

struct Shape {
  int64_t rows, in, out;
};
constexpr Shape kShapes[] = {{1, 8, 5}, {64, 512, 512}, {64, 512, 1536}, {33, 300, 1009}, {128, 2048, 384}, {7, 1, 4096}, {64, 512, 257}};

class ProductTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    at::manual_seed(1);
    at::set_num_threads(GetParam());
  }
  void TearDown() override { at::set_num_threads(1); }

  // Every element of `found` against the same sum in fp64.
  static void expect_near(const at::Tensor& found, const at::Tensor& expected, double tolerance) {
    ASSERT_EQ(found.sizes(), expected.sizes());
    EXPECT_LE((found.to(at::kDouble) - expected).abs().max().item<double>(), tolerance * expected.abs().max().item<double>())
        << found.sizes() << " on " << at::get_num_threads() << " threads";
  }
};

TEST_P(ProductTest, IsTheProductOfEveryShape) {
  for (const Shape& s : kShapes) {
    const at::Tensor rows = at::randn({s.rows, s.in}), matrix = at::randn({s.in, s.out});
    expect_near(product(rows, matrix), at::mm(rows.to(at::kDouble), matrix.to(at::kDouble)), 1e-5);
  }
}

TEST_P(ProductTest, AddsToWhatIsThere) {
  for (const Shape& s : kShapes) {
    const at::Tensor rows = at::randn({s.rows, s.in}), matrix = at::randn({s.in, s.out}), before = at::randn({s.rows, s.out});
    const at::Tensor y = before.clone();
    add_product_(y, rows, matrix);
    expect_near(y, before.to(at::kDouble) + at::mm(rows.to(at::kDouble), matrix.to(at::kDouble)), 1e-5);
  }
}

TEST_P(ProductTest, TakesTransposedMatricesAndStridedRows) {
  const at::Tensor weight = at::randn({1024, 512}), wide = at::randn({64, 600});
  const at::Tensor rows = wide.narrow(1, 40, 512);
  expect_near(product(rows, weight.t()), at::mm(rows.to(at::kDouble), weight.t().to(at::kDouble)), 1e-5);
}

TEST_P(ProductTest, TakesSixteenBits) {
  const at::Tensor rows = at::randn({64, 512}).to(at::kBFloat16), matrix = at::randn({512, 1024}).to(at::kBFloat16);
  const at::Tensor y = product(rows, matrix);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  expect_near(y, at::mm(rows.to(at::kDouble), matrix.to(at::kDouble)), 1e-2);
}

TEST_P(ProductTest, RecordsNothingForLeavesThatWantGradients) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = at::randn({64, 512}), matrix = at::randn({512, 1024}).requires_grad_();
  const at::Tensor y = product(rows, matrix);
  add_product_(y, rows, matrix);
  EXPECT_FALSE(y.requires_grad());
  EXPECT_FALSE(y.is_inference());
  expect_near(y, 2 * at::mm(rows.to(at::kDouble), matrix.detach().to(at::kDouble)), 1e-5);
}

// Branch b sees (b + 1) times the matrix.
class Multiples final : public PerturbedMatrix {
 public:
  Multiples(at::Tensor matrix, int64_t branches) : matrix_(std::move(matrix)), branches_(branches) {}
  void write(const Part& part, float* const* out) const override {
    const at::Tensor values = matrix_.narrow(0, part.row, part.rows).narrow(1, part.column, part.columns);
    for (int64_t b = 0; b < branches_; ++b) at::from_blob(out[b], {part.rows, part.columns}).copy_(values * (b + 1));
  }

 private:
  at::Tensor matrix_;
  int64_t branches_;
};

TEST_P(ProductTest, TilesMakeTheProductOfEveryBranch) {
  const at::NoGradGuard no_grad;
  for (const Shape& s : kShapes)
    for (const int64_t branches : {1, 2})
      for (const bool transposed : {false, true})
        for (const bool add : {false, true}) {
          const at::Tensor rows = at::randn({branches * s.rows, s.in}), matrix = at::randn({s.in, s.out});
          const Multiples multiples(transposed ? matrix.t().contiguous() : matrix, branches);
          const at::Tensor before = add ? at::randn({branches * s.rows, s.out}) : at::full({branches * s.rows, s.out}, NAN);
          const at::Tensor y = before.clone();
          multiply_tiles({multiples, s.in, s.out, branches, transposed}, rows, y, add);
          for (int64_t b = 0; b < branches; ++b) {
            at::Tensor expected = (b + 1) * at::mm(rows.narrow(0, b * s.rows, s.rows).to(at::kDouble), matrix.to(at::kDouble));
            if (add) expected += before.narrow(0, b * s.rows, s.rows);
            expect_near(y.narrow(0, b * s.rows, s.rows), expected, 1e-5);
          }
        }
}

INSTANTIATE_TEST_SUITE_P(Threads, ProductTest, ::testing::Values(1, 2, 3));

}  // namespace
}  // namespace zerostep
