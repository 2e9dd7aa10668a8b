#include "runtime/strategy/projected_gradients.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/strategy/step_kind.h"

namespace zerostep {
namespace {

using Kind = StepConfig::Transform::Kind;
using Mode = StepConfig::Mode;

void expect_near(const std::vector<double>& a, const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-14) << i;
}

TEST(ProjectedGradients, AreDifferencesOfSumsOverTokens) {
  StepConfig config;
  config.epsilon = 0.5;
  // (30 - 26) / (2 * 0.5 * 8), (9 - 12) / (2 * 0.5 * 3): a ratio of sums, never a mean of means.
  const std::vector<ZerothOrder::Sums> sums = {{30, 26, 8}, {9, 12, 3}};
  const ProjectedGradients central = projected_gradients(config, sums);
  expect_near(central.scalars, {0.5, -1});
  EXPECT_DOUBLE_EQ(central.loss, (28.0 / 8 + 10.5 / 3) / 2);
  EXPECT_TRUE(central.finite);
  config.estimator = StepConfig::Estimator::Forward;
  const ProjectedGradients forward = projected_gradients(config, sums);
  expect_near(forward.scalars, {1, -2});
  EXPECT_DOUBLE_EQ(forward.loss, (26.0 / 8 + 12.0 / 3) / 2);  // at the unperturbed weights
}

TEST(ProjectedGradients, SayWhereASumIsNoNumber) {
  const double bad[] = {std::nan(""), std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (const double value : bad)
    for (const bool plus : {true, false}) {
      std::vector<ZerothOrder::Sums> sums = {{3, 2, 8}, {9, 12, 3}};
      (plus ? sums[1].plus : sums[1].minus) = value;
      EXPECT_FALSE(projected_gradients(StepConfig{}, sums).finite);
    }
}

TEST(ProjectedGradients, WithoutTokensAreZero) {
  const ProjectedGradients none = projected_gradients(StepConfig{}, std::vector<ZerothOrder::Sums>{{0, 0, 0}});
  EXPECT_EQ(none.scalars, std::vector<double>{0});
  EXPECT_EQ(none.loss, 0);
}

// Mean 3, squares of the distances 4 + 1 + 0 + 1 + 4 = 10: the standard deviation of five is sqrt(10 / 4).
TEST(ScalarTransform, IsWhatItsNameSays) {
  const std::vector<double> p = {1, 2, 3, 4, 5};
  const double deviation = std::sqrt(2.5);
  EXPECT_EQ(transform_scalars({Kind::None, 3}, p), p);
  expect_near(transform_scalars({Kind::Normalise, 3}, p), {1 / deviation, 2 / deviation, 3 / deviation, 4 / deviation, 5 / deviation});
  // 1 - (2 + 3 + 4 + 5) / 4 = -2.5, ...
  expect_near(transform_scalars({Kind::LeaveOneOut, 3}, p), {-2.5, -1.25, 0, 1.25, 2.5});
  expect_near(transform_scalars({Kind::Clip, 1}, p), {3 - deviation, 2, 3, 4, 3 + deviation});
  EXPECT_EQ(transform_scalars({Kind::Clip, 2}, p), p);
}

TEST(ScalarTransform, CutsOneOutlier) {
  // Mean 12, squares 9 x 144 + 108 x 108 = 12960 over 9: deviation 37.947...; cut at two of them.
  std::vector<double> p(10, 0.0);
  p[3] = 120;
  const double deviation = std::sqrt(12960.0 / 9);
  std::vector<double> cut(10, 0.0);
  cut[3] = 12 + 2 * deviation;
  expect_near(transform_scalars({Kind::Clip, 2}, p), cut);
}

TEST(ScalarTransform, LeavesEqualScalarsAlone) {
  const std::vector<double> same = {0.25, 0.25, 0.25};
  EXPECT_EQ(transform_scalars({Kind::Normalise, 3}, same), same);
  EXPECT_EQ(transform_scalars({Kind::Clip, 3}, same), same);
  expect_near(transform_scalars({Kind::LeaveOneOut, 3}, same), {0, 0, 0});
}

// A constant added to every loss cancels in the baseline.
TEST(ScalarTransform, LeaveOneOutForgetsTheUnperturbedLoss) {
  std::vector<double> p = {0.5, -1, 4};
  const auto before = transform_scalars({Kind::LeaveOneOut, 3}, p);
  for (double& v : p) v += 1000;
  const auto after = transform_scalars({Kind::LeaveOneOut, 3}, p);
  for (size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-12);
}

TEST(ExpectedNorm, IsTheNormOfIndependentDirections) {
  EXPECT_DOUBLE_EQ(expected_norm(std::vector<double>{3, 4}, 100), std::sqrt(100.0 * 25) / 2);
  EXPECT_DOUBLE_EQ(expected_norm(std::vector<double>{-2}, 9), 6);
  EXPECT_EQ(expected_norm(std::vector<double>{0, 0}, 9), 0);
}

char letter_of(const StepKind& kind) {
  if (kind.update == StepKind::Update::Blend) return 'I';
  if (kind.backprop) return kind.queries ? 'M' : 'B';
  return kind.queries ? 'q' : '?';
}

std::string kinds_of(const StepConfig& config, int64_t steps) {
  std::string text;
  for (int64_t s = 0; s < steps; ++s) {
    const StepKind kind = step_kind(config, s);
    EXPECT_EQ(kind.instructed, kind.update == StepKind::Update::Blend);
    EXPECT_EQ(kind.update == StepKind::Update::Estimate, !kind.backprop);
    text += letter_of(kind);
  }
  return text;
}

TEST(StepKind, FollowsModeAndIntervals) {
  StepConfig config;
  EXPECT_EQ(kinds_of(config, 4), "BBBB");
  config.mode = Mode::ZerothOrder;
  EXPECT_EQ(kinds_of(config, 4), "qqqq");
  config.mode = Mode::Calibrate;
  config.bp_interval = 3;
  EXPECT_EQ(kinds_of(config, 9), "qqBqqBqqB");
  config.monitor_interval = 2;
  EXPECT_EQ(kinds_of(config, 12), "qqBqqMqqBqqM");
  config.bp_interval = 1;
  config.monitor_interval = 0;
  EXPECT_EQ(kinds_of(config, 3), "BBB");
  config.mode = Mode::Instruct;
  config.bp_interval = 4;
  EXPECT_EQ(kinds_of(config, 8), "qqqIqqqI");
  config.mode = Mode::Alternating;
  config.zo_steps = 1;
  EXPECT_EQ(kinds_of(config, 4), "BqBq");
  config.zo_steps = 3;
  EXPECT_EQ(kinds_of(config, 9), "BqqqBqqqB");
  config.zo_steps = INT64_MAX;
  EXPECT_EQ(kinds_of(config, 4), "Bqqq");
}

TEST(StepKind, AllKindsOfARunAreKnown) {
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder, Mode::Calibrate, Mode::Instruct, Mode::Alternating})
    for (const int64_t interval : {1, 2, 7})
      for (const int64_t monitored : {0, 1, 2, 3}) {
        StepConfig config;
        config.mode = mode;
        config.monitor_interval = monitored;
        if (mode == Mode::Calibrate || mode == Mode::Instruct) config.bp_interval = interval;
        if (mode == Mode::Alternating) config.zo_steps = interval;
        std::vector<StepKind> found;
        for (int64_t step = 0; step < 7 * 3 * 2; ++step) {
          const StepKind kind = step_kind(config, step);
          if (std::find(found.begin(), found.end(), kind) == found.end()) found.push_back(kind);
        }
        const std::vector<StepKind> told = step_kinds(config);
        EXPECT_EQ(told.size(), found.size());
        for (const StepKind& kind : found) EXPECT_NE(std::find(told.begin(), told.end(), kind), told.end());
      }
}

}  // namespace
}  // namespace zerostep
