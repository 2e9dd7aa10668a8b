#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "experiments/probe/epsilon_curve.h"
#include "experiments/probe/rate_curve.h"

namespace zerostep {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();

TEST(Probe, TheMiddleOfTheFlatPartIsRecommended) {
  using Curve = std::vector<EpsilonError>;
  EXPECT_EQ(recommended_epsilon(Curve{{1e-5, 9}, {1e-4, 1.9}, {1e-3, 1}, {1e-2, 1.5}, {1e-1, 8}}), 1e-3);
  // The best stands at an end of it.
  EXPECT_EQ(recommended_epsilon(Curve{{1e-5, 9}, {1e-4, 1}, {1e-3, 1.9}, {1e-2, 1.9}, {1e-1, 8}}), 1e-3);
  // Of two the smaller, where curvature is less.
  EXPECT_EQ(recommended_epsilon(Curve{{1e-4, 1}, {1e-3, 2}, {1e-2, 2.1}}), 1e-4);
  // What is flat elsewhere is not beside the best.
  EXPECT_EQ(recommended_epsilon(Curve{{1e-6, 2}, {1e-5, 3}, {1e-4, 1}, {1e-3, 3}, {1e-2, 2}}), 1e-4);
  EXPECT_EQ(recommended_epsilon(Curve{{1e-4, 3}, {1e-3, 1}, {1e-2, kInf}, {1e-1, kNaN}}), 1e-3);
  EXPECT_EQ(recommended_epsilon(Curve{{1e-2, kNaN}, {1e-1, kInf}}), std::nullopt);
  EXPECT_EQ(recommended_epsilon({}), std::nullopt);
}

TEST(Probe, ARateBelowTheBestIsRecommended) {
  EXPECT_EQ(recommended_rate({5, {{1e-4, 4.9}, {3e-4, 4.5}, {1e-3, 4.0}, {3e-3, 4.2}, {1e-2, kNaN}}}), 3e-4);
  EXPECT_EQ(recommended_rate({5, {{1e-4, 4.9}, {3e-4, 6}, {1e-3, kNaN}}}), 1e-4);
  EXPECT_EQ(recommended_rate({5, {{1e-4, 5}, {3e-4, 6}}}), std::nullopt);
  EXPECT_EQ(recommended_rate({5, {{1e-4, kNaN}}}), std::nullopt);
  EXPECT_EQ(recommended_rate({kNaN, {{1e-4, 1}}}), std::nullopt);
}

}  // namespace
}  // namespace zerostep
