#include "models/objective.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace zerostep {
namespace {

// Sum over valid positions by the definition, in fp64.
at::Tensor reference(const at::Tensor& logits, const at::Tensor& labels) {
  return at::cross_entropy_loss(logits.to(at::kDouble).flatten(0, 1), labels.flatten(), {}, at::Reduction::Sum);
}

struct Shape {
  int64_t samples, length, vocabulary;
};

// Bound of the relative error of a softmax over `vocabulary` logits in fp32, whatever the instruction set: at most u = 2^-24 for each of
// the additions that follow one another (vector code has 8 lanes or more), and 64 u for what an element takes by itself: an exponential of
// up to 20 units in the last place, its argument's rounding (differences of up to 30) and a division.
double softmax_bound(int64_t vocabulary) { return std::exp2(-24) * (static_cast<double>(vocabulary) / 8 + 64); }

class CrossEntropy : public testing::TestWithParam<Shape> {};

TEST_P(CrossEntropy, EqualsItsDefinition) {
  at::manual_seed(1);
  const auto [samples, length, vocabulary] = GetParam();
  const auto objective = make_cross_entropy();
  Batch batch;
  batch.labels = at::randint(vocabulary, {samples, length}, at::kLong);
  batch.labels.flatten().slice(0, 0, samples * length, 3) = -100;
  batch.valid_tokens = batch.labels.ne(-100).sum().item<int64_t>();
  EXPECT_EQ(objective->count(batch), batch.valid_tokens);
  const at::Tensor exact = at::randn({samples, length, vocabulary}) * 4;
  // Gradients are rounded to their type once; u of bf16 is 2^-8, of fp16 2^-11, where what lies below its range is lost, too.
  for (const auto& [type, rounding] : {std::pair{at::kFloat, 0.0}, {at::kBFloat16, std::exp2(-8)}, {at::kHalf, std::exp2(-10)}}) {
    const at::Tensor logits = exact.to(type, /*non_blocking=*/false, /*copy=*/true).requires_grad_();
    const at::Tensor wide = logits.detach().to(at::kDouble).requires_grad_();
    const at::Tensor sum = objective->sum(batch, {logits}), expected = reference(wide, batch.labels);
    EXPECT_EQ(sum.scalar_type(), at::kFloat);
    EXPECT_EQ(sum.dim(), 0);
    // The logarithm of a sum is off by the sum's relative error, in each row; the total is rounded to fp32.
    const double bound = softmax_bound(vocabulary);
    EXPECT_NEAR(sum.item<double>(), expected.item<double>(),
                static_cast<double>(batch.valid_tokens) * bound + std::exp2(-23) * expected.item<double>());
    (sum * 0.125).backward();
    (expected * 0.125).backward();
    EXPECT_EQ(logits.grad().scalar_type(), type);
    const double distance = (logits.grad().to(at::kDouble) - wide.grad()).norm().item<double>() / wide.grad().norm().item<double>();
    // The gradient of a row is p - 1 at the label: an error of p counts by the ratio of the norms (the condition).
    const at::Tensor p = at::softmax(wide.detach(), -1) * batch.labels.ne(-100).unsqueeze(-1) * 0.125;
    const double condition = p.norm().item<double>() / wide.grad().norm().item<double>();
    EXPECT_LT(distance, bound * std::max(1.0, condition) + rounding);
    const at::Tensor ignored = logits.grad().flatten(0, 1).slice(0, 0, samples * length, 3);
    EXPECT_EQ(ignored.abs().max().item<double>(), 0);
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(objective->sum(batch, {logits}), sum));
  }
}

// Many rows a chunk, several chunks, rows larger than a chunk.
INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropy,
                         testing::Values(Shape{2, 5, 7}, Shape{3, 700, 257}, Shape{2, 9, 50257}, Shape{1, 4, 300000}));

TEST(CrossEntropyEdges, ExtremeLogitsStayFinite) {
  Batch batch;
  batch.labels = at::tensor({0, 1}, at::kLong).unsqueeze(0);
  const at::Tensor logits = at::tensor({1e4f, -1e4f, 3e38f, -3e38f}).view({1, 2, 2}).requires_grad_();
  const at::Tensor sum = make_cross_entropy()->sum(batch, {logits});
  EXPECT_TRUE(std::isinf(sum.item<float>()));  // the second row's label has no probability left in fp32
  Batch first = batch;
  first.labels[0][1] = -100;
  const at::Tensor finite = make_cross_entropy()->sum(first, {logits});
  EXPECT_EQ(finite.item<float>(), 0);
  finite.backward();
  EXPECT_TRUE(logits.grad().isfinite().all().item<bool>());
}

TEST(CrossEntropyEdges, NothingValidIsZero) {
  Batch batch;
  batch.labels = at::full({2, 3}, -100, at::kLong);
  const at::Tensor logits = at::randn({2, 3, 5}).requires_grad_();
  const at::Tensor sum = make_cross_entropy()->sum(batch, {logits});
  sum.backward();
  EXPECT_EQ(sum.item<float>(), 0);
  EXPECT_EQ(logits.grad().abs().max().item<float>(), 0);
}

TEST(CrossEntropyEdges, WrongLabelsAndShapesAreRefused) {
  Batch batch;
  batch.labels = at::full({1, 2}, 5, at::kLong);
  EXPECT_ANY_THROW(make_cross_entropy()->sum(batch, {at::randn({1, 2, 5})}));
  batch.labels.fill_(-1);
  EXPECT_ANY_THROW(make_cross_entropy()->sum(batch, {at::randn({1, 2, 5})}));
  EXPECT_THROW(make_cross_entropy()->sum(batch, {at::randn({1, 3, 5})}), ProtocolError);
}

TEST(Accuracy, CountsLikeliestTokensThatAreTheLabel) {
  Batch batch;
  batch.labels = at::tensor({0, 2, -100, 1, 1, 4}, at::kLong).view({2, 3});
  batch.valid_tokens = 5;
  at::Tensor logits = at::zeros({2, 3, 5});
  // Likeliest: 0 (right), 1 (wrong), 3 (ignored); 1 (right), 0 (wrong), 4 (right).
  const int64_t likeliest[2][3] = {{0, 1, 3}, {1, 0, 4}};
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t t = 0; t < 3; ++t) logits[b][t][likeliest[b][t]] = 1;
  const auto accuracy = make_accuracy();
  EXPECT_EQ(accuracy->value(batch, {logits}).item<double>(), -3);
  EXPECT_EQ(accuracy->sum(batch, {logits}).item<float>(), -3);
  EXPECT_EQ(accuracy->count(batch), 5);
}

TEST(CrossEntropyEdges, ValueIsTheSumWithoutItsLastRounding) {
  Batch batch;
  batch.labels = at::randint(0, 7, {4, 9}, at::kLong);
  const at::Tensor logits = at::randn({4, 9, 7});
  const double exact = -at::log_softmax(logits.to(at::kDouble), -1).gather(2, batch.labels.unsqueeze(-1)).sum().item<double>();
  const double value = make_cross_entropy()->value(batch, {logits}).item<double>();
  EXPECT_NEAR(value / exact, 1, 1e-6);  // log-softmax is fp32
  EXPECT_EQ(static_cast<float>(value), make_cross_entropy()->sum(batch, {logits}).item<float>());
}

TEST(Objective, OfSamplesTakesALabelForEachSample) {
  Batch batch;
  batch.labels = at::tensor({2, -100, 0, 1}, at::kLong).unsqueeze(1);
  batch.valid_tokens = 3;
  const at::Tensor logits = at::randn({4, 3}).requires_grad_();
  const auto objective = make_cross_entropy(Labelled::Samples);
  const at::Tensor sum = objective->sum(batch, {logits});
  const at::Tensor expected = at::cross_entropy_loss(logits, batch.labels.flatten(), {}, at::Reduction::Sum);
  EXPECT_NEAR(sum.item<double>(), expected.item<double>(), 1e-6);
  EXPECT_NEAR(objective->value(batch, {logits}).item<double>(), expected.item<double>(), 1e-6);
  sum.backward();
  const at::Tensor found = logits.grad().clone();
  logits.grad().zero_();
  expected.backward();
  EXPECT_LT((found - logits.grad()).abs().max().item<double>(), 1e-6);
  const auto correct = logits.argmax(1).eq(batch.labels.flatten()).sum().item<int64_t>();
  EXPECT_EQ(make_accuracy(Labelled::Samples)->value(batch, {logits}).item<double>(), -static_cast<double>(correct));
  EXPECT_EQ(objective->activation_cost({4, 100, DType::F32}, 3).backward_transient_bytes,
            objective->activation_cost({4, 1, DType::F32}, 3).backward_transient_bytes);
  EXPECT_ANY_THROW(objective->sum(batch, {at::randn({4, 1, 3})}));
  EXPECT_ANY_THROW(objective->sum(batch, {at::randn({3, 3})}));
}

}  // namespace
}  // namespace zerostep
