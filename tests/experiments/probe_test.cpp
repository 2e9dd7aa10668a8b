#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

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

TEST(Probe, ARateBelowTheGoodOnesIsRecommended) {
  const auto rate = [](const RateCurve& curve) {
    const std::optional<RecommendedRate> found = recommended_rate(curve);
    return found ? std::optional(found->lr) : std::nullopt;
  };
  EXPECT_EQ(rate({5, {{1e-4, 4.9}, {3e-4, 4.5}, {1e-3, 4.0}, {3e-3, 4.2}, {1e-2, kNaN}}}), 3e-4);
  EXPECT_EQ(rate({5, {{1e-4, 4.9}, {3e-4, 6}, {1e-3, kNaN}}}), 1e-4);
  // None is recommended that has not lowered the loss itself.
  EXPECT_EQ(rate({5, {{1e-4, 5.01}, {3e-4, 4}, {1e-3, 6}}}), 3e-4);
  EXPECT_EQ(rate({5, {{1e-4, 5}, {3e-4, 4}, {1e-3, 6}}}), 3e-4);
  EXPECT_EQ(rate({5, {{1e-4, kNaN}, {3e-4, 4}, {1e-3, 6}}}), 3e-4);
  EXPECT_EQ(rate({5, {{1e-4, 5}, {3e-4, 6}}}), std::nullopt);
  EXPECT_EQ(rate({5, {{1e-4, kNaN}}}), std::nullopt);
  EXPECT_EQ(rate({5, {}}), std::nullopt);
  EXPECT_EQ(rate({kNaN, {{1e-4, 1}}}), std::nullopt);
  // Of rates that do as much the lowest counts, though another is the best by a little.
  const RecommendedRate found = recommended_rate({5, {{1e-4, 4.5}, {3e-4, 3.05}, {1e-3, 3.01}, {3e-3, 3}, {1e-2, 6}}}).value();
  EXPECT_EQ(found.lr, 1e-4);
  EXPECT_EQ(found.good, 3e-4);
  EXPECT_EQ(found.best, 3e-3);
}

// Losses as steps of a constant rate on a bowl leave them, start x e^(-2 rate steps / scale), which diverge above a rate: the rate moves by
// at most half a decade where the steps are doubled, whatever the scale and the edge are, and chance of 1 % of the gain included.
TEST(Probe, TheRateMovesByAtMostHalfADecadeWithTwiceTheSteps) {
  const std::vector<double> rates{1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1, 3, 10, 30, 100};
  const auto recommended = [&](double scale, double edge, int steps, int chance) {
    RateCurve curve{5, {}};
    for (size_t i = 0; i < rates.size(); ++i) {
      const double noise = 1 + 0.01 * std::sin(static_cast<double>(7 * i + static_cast<size_t>(13 * chance + steps)));
      const double loss = rates[i] > edge ? kNaN : 5 - 3 * noise * (1 - std::exp(-2 * rates[i] * steps / scale));
      curve.rates.push_back({rates[i], loss});
    }
    const double lr = recommended_rate(curve).value().lr;
    return std::find(rates.begin(), rates.end(), lr) - rates.begin();
  };
  for (double scale : {1e-4, 2e-3, 0.05, 1.0, 30.0})
    for (double edge : {0.02, 0.5, 50.0})
      for (int chance = 0; chance < 5; ++chance)
        for (int steps = 5; steps <= 640; steps *= 2)
          EXPECT_LE(std::abs(recommended(scale, edge, steps, chance) - recommended(scale, edge, 2 * steps, chance)), 1)
              << scale << ", edge " << edge << ", " << steps << " steps";
}

}  // namespace
}  // namespace zerostep
