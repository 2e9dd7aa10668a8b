#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>

#include "experiments/plot/downsample.h"
#include "experiments/plot/mean_curve.h"
#include "experiments/plot/smooth.h"

namespace zerostep {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(PlotCurves, EveryPixelKeepsItsLowestAndHighestPoint) {
  constexpr size_t kCount = 20000;
  constexpr int64_t kPixels = 137;
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  std::vector<double> x, y;
  for (size_t i = 0; i < kCount; ++i) {
    x.push_back(static_cast<double>(i) + 0.25);
    y.push_back(i % 97 == 0 ? kNan : 3 + normal(random));
  }
  const Scale scale{0, kCount}, values{0, 10};
  // By pixel, from all points.
  std::map<int64_t, std::pair<double, double>> extremes;
  std::map<int64_t, std::pair<size_t, size_t>> ends;
  for (size_t i = 0; i < kCount; ++i) {
    if (std::isnan(y[i])) continue;
    const auto pixel = static_cast<int64_t>(x[i] * kPixels / kCount);
    const auto [it, is_first] = extremes.try_emplace(pixel, y[i], y[i]);
    it->second = {std::min(it->second.first, y[i]), std::max(it->second.second, y[i])};
    const auto [of_ends, begins] = ends.try_emplace(pixel, i, i);
    of_ends->second.second = i;
  }
  const std::vector<size_t> kept = shown_points({x, y}, scale, values, kPixels);
  EXPECT_LE(kept.size(), static_cast<size_t>(4 * kPixels));
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
  EXPECT_EQ(std::adjacent_find(kept.begin(), kept.end()), kept.end());
  std::map<int64_t, std::pair<double, double>> found;
  std::map<int64_t, std::pair<size_t, size_t>> found_ends;
  for (size_t i : kept) {
    ASSERT_FALSE(std::isnan(y[i]));
    const auto pixel = static_cast<int64_t>(x[i] * kPixels / kCount);
    const auto [it, is_first] = found.try_emplace(pixel, y[i], y[i]);
    it->second = {std::min(it->second.first, y[i]), std::max(it->second.second, y[i])};
    const auto [of_ends, begins] = found_ends.try_emplace(pixel, i, i);
    of_ends->second.second = i;
  }
  EXPECT_EQ(found, extremes);
  EXPECT_EQ(found_ends, ends);
}

// What a band holds of a pixel is the lowest and the highest of all its points, and of the mean too.
TEST(PlotCurves, EveryPixelKeepsTheEndsOfItsBand) {
  constexpr size_t kCount = 20000;
  constexpr int64_t kPixels = 137;
  std::mt19937 random(7);
  std::normal_distribution<double> normal;
  std::vector<double> x, y, low, high;
  for (size_t i = 0; i < kCount; ++i) {
    x.push_back(static_cast<double>(i) + 0.25);
    y.push_back(normal(random));
    low.push_back(y.back() - std::abs(normal(random)));
    high.push_back(y.back() + std::abs(normal(random)));
  }
  std::vector<size_t> all(kCount);
  std::iota(all.begin(), all.end(), size_t{0});
  const std::vector<size_t> kept = shown_points({x, y, low, high}, {0, kCount}, {-10, 10}, kPixels);
  EXPECT_LE(kept.size(), static_cast<size_t>(6 * kPixels));
  EXPECT_TRUE(std::is_sorted(kept.begin(), kept.end()));
  // By pixel: the lowest of low and of y, the highest of y and of high.
  const auto ends = [&](const std::vector<size_t>& points) {
    std::map<int64_t, std::array<double, 4>> out;
    for (size_t i : points) {
      const auto [it, is_first] = out.try_emplace(static_cast<int64_t>(x[i] * kPixels / kCount), std::array{low[i], y[i], y[i], high[i]});
      auto& [bottom, lowest, highest, top] = it->second;
      bottom = std::min(bottom, low[i]);
      lowest = std::min(lowest, y[i]);
      highest = std::max(highest, y[i]);
      top = std::max(top, high[i]);
    }
    return out;
  };
  EXPECT_EQ(ends(kept), ends(all));
}

TEST(PlotCurves, FewPointsStayAndWhatHasNoPlaceGoes) {
  const std::vector<double> x{0, 1, 2, 3, 4}, y{5, -1, kNan, std::numeric_limits<double>::infinity(), 2};
  EXPECT_EQ(shown_points({x, y}, {0, 4}, {0, 5}, 100), (std::vector<size_t>{0, 1, 4}));
  EXPECT_EQ(shown_points({x, y}, {0, 4}, {1, 5, true}, 100), (std::vector<size_t>{0, 4}));
  EXPECT_EQ(shown_points({x, y}, {1, 4, true}, {0, 5}, 100), (std::vector<size_t>{1, 4}));
  EXPECT_TRUE(shown_points({}, {0, 1}, {0, 1}, 10).empty());
  // A band that reaches 0 stays with its mean.
  const std::vector<double> low{4, -2, 0, 0, 1}, high{6, 3, 9, 9, 3};
  EXPECT_EQ(shown_points({x, y, low, high}, {0, 4}, {1, 5, true}, 100), (std::vector<size_t>{0, 4}));
}

TEST(PlotCurves, SmoothingIsTheWeightedMeanOfWhatCameBefore) {
  const std::vector<double> y{4, 1, kNan, 7, 2, 2};
  constexpr double kA = 0.5;  // of whose powers nothing is rounded before the division
  const std::vector<double> out = smoothed(y, kA);
  std::vector<double> seen;
  for (size_t i = 0; i < y.size(); ++i) {
    if (std::isnan(y[i])) {
      EXPECT_TRUE(std::isnan(out[i]));
      continue;
    }
    seen.push_back(y[i]);
    // The value that is j values old weighs a^j.
    double sum = 0, weights = 0;
    for (size_t j = 0; j < seen.size(); ++j) {
      const double weight = std::pow(kA, static_cast<double>(seen.size() - 1 - j));
      sum += weight * seen[j];
      weights += weight;
    }
    EXPECT_EQ(out[i], sum / weights) << i;
  }
  EXPECT_EQ(smoothed(std::vector<double>{3, 1, 2}, 0), (std::vector<double>{3, 1, 2}));
}

TEST(PlotCurves, MeansOfRunsWithTheSameStepsAreRowByRowAsFarAsAllGo) {
  const MeanCurve mean = mean_curve({{0, 1, 2, 3}, {0, 1, 2}, {0, 1}}, {{4, 5, 6, 7}, {2, 1, 3}, {9, 6}});
  EXPECT_EQ(mean.x, (std::vector<double>{0, 1}));
  EXPECT_EQ(mean.mean, (std::vector<double>{5, 4}));
  EXPECT_EQ(mean.low, (std::vector<double>{2, 1}));
  EXPECT_EQ(mean.high, (std::vector<double>{9, 6}));
  // The same x, though it falls and stays, as a learning rate does.
  EXPECT_EQ(mean_curve({{1, 3, 3, 2}, {1, 3, 3, 2}}, {{1, 2, 3, 4}, {3, 4, 5, 6}}).mean, (std::vector<double>{2, 3, 4, 5}));
}

// y = 2x and y = 10 - x, at different x that part the lines in eighths, which are not rounded: the mean is x / 2 + 5 wherever both are.
TEST(PlotCurves, MeansOfOtherPlacesLieOnLinesBetweenPoints) {
  const MeanCurve mean = mean_curve({{0, 1, 3, 7}, {0.5, 2.5, 6.5}}, {{0, 2, 6, 14}, {9.5, 7.5, 3.5}});
  EXPECT_EQ(mean.x, (std::vector<double>{0.5, 1, 2.5, 3, 6.5}));
  for (size_t i = 0; i < mean.x.size(); ++i) {
    EXPECT_EQ(mean.mean[i], mean.x[i] / 2 + 5);
    EXPECT_EQ(mean.low[i], std::min(2 * mean.x[i], 10 - mean.x[i]));
    EXPECT_EQ(mean.high[i], std::max(2 * mean.x[i], 10 - mean.x[i]));
  }
  EXPECT_TRUE(mean_curve({{0, 1}, {2, 3}}, {{1, 1}, {1, 1}}).x.empty());
  EXPECT_TRUE(mean_curve({{0, 2, 1}, {0, 1, 2}}, {{1, 1, 1}, {1, 1, 1}}).x.empty());  // x falls
  // Points with one x are one, at their mean.
  const MeanCurve repeated = mean_curve({{0, 1, 1, 2}, {0, 2}}, {{0, 4, 8, 2}, {0, 2}});
  EXPECT_EQ(repeated.x, (std::vector<double>{0, 1, 2}));
  EXPECT_EQ(repeated.mean, (std::vector<double>{0, 3.5, 2}));
}

// Three runs of one curve, e^-x plus a level each, whose steps take other times and which end one after the other. The mean is e^-x plus
// the mean level to where the first ends, and nowhere steps by a level, as it would where a run leaves it.
TEST(PlotCurves, MeansDoNotJumpWhereARunEnds) {
  std::vector<std::vector<double>> x, y;
  for (int run = 0; run < 3; ++run) {
    x.emplace_back();
    y.emplace_back();
    for (int k = 0; k < 500 - 100 * run; ++k) {
      x.back().push_back(0.01 * k * (1 + 0.001 * run) + 0.002);
      y.back().push_back(std::exp(-x.back().back()) + run);
    }
  }
  const MeanCurve mean = mean_curve(x, y);
  EXPECT_EQ(mean.x.back(), x[2].back());
  // Between points 0.01002 apart a line lies at most 0.01002^2 / 8 above a curve whose second derivative is at most 1.
  for (size_t i = 0; i < mean.x.size(); ++i) EXPECT_NEAR(mean.mean[i], std::exp(-mean.x[i]) + 1, 1.3e-5);
}

// Four curves of so many points that the mean is not taken at each of their x: every part of x keeps the lowest and the highest point of
// any curve, and wherever there is a mean it is that of the curves' lines, which lie between their neighbouring points.
TEST(PlotCurves, MeansOfManyPointsKeepTheEndsOfTheBand) {
  constexpr size_t kCurves = 4, kPoints = 3 * kMostMeanPoints;
  constexpr int64_t kParts = kMostMeanPoints / 4;
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> step(0.5, 1.5);
  std::vector<std::vector<double>> x(kCurves), y(kCurves);
  for (size_t c = 0; c < kCurves; ++c) {
    double at = static_cast<double>(c);
    for (size_t i = 0; i < kPoints; ++i) {
      x[c].push_back(at += step(random));
      y[c].push_back(normal(random));
    }
  }
  const MeanCurve mean = mean_curve(x, y);
  EXPECT_LE(mean.x.size(), kCurves * kMostMeanPoints + kCurves);  // the last x is a part of its own
  EXPECT_GT(mean.x.size(), static_cast<size_t>(kParts));
  const double first = mean.x.front(), last = mean.x.back();
  for (size_t c = 0; c < kCurves; ++c) {
    EXPECT_LE(x[c].front(), first);
    EXPECT_GE(x[c].back(), last);
  }
  // Of parts that do not fall on a point's x exactly.
  std::map<int64_t, std::pair<double, double>> wanted, found;
  const auto add = [&](auto& ends, double at, double low, double high) {
    if (at < first || at > last) return;
    const auto [it, is_first] = ends.try_emplace(static_cast<int64_t>((at - first) / (last - first) * kParts), low, high);
    it->second = {std::min(it->second.first, low), std::max(it->second.second, high)};
  };
  for (size_t c = 0; c < kCurves; ++c)
    for (size_t i = 0; i < kPoints; ++i) add(wanted, x[c][i], y[c][i], y[c][i]);
  for (size_t i = 0; i < mean.x.size(); ++i) add(found, mean.x[i], mean.low[i], mean.high[i]);
  ASSERT_EQ(found.size(), wanted.size());
  // A curve between two parts may reach farther on its line from the one to the other than its points do in one of them.
  for (const auto& [part, ends] : wanted) {
    EXPECT_LE(found[part].first, ends.first);
    EXPECT_GE(found[part].second, ends.second);
  }
  for (size_t i = 0; i < mean.x.size(); ++i) {
    double sum = 0, low = HUGE_VAL, high = -HUGE_VAL;
    for (size_t c = 0; c < kCurves; ++c) {
      const auto right = static_cast<size_t>(std::lower_bound(x[c].begin(), x[c].end(), mean.x[i]) - x[c].begin());
      double value = y[c][right];
      if (x[c][right] != mean.x[i])
        value = std::lerp(y[c][right - 1], value, (mean.x[i] - x[c][right - 1]) / (x[c][right] - x[c][right - 1]));
      sum += value;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    // A value on a line has four roundings of values of at most 10, a mean one for each curve and one for the division.
    constexpr double kRounding = 10 * 0x1p-53;
    EXPECT_NEAR(mean.low[i], low, 8 * kRounding);
    EXPECT_NEAR(mean.high[i], high, 8 * kRounding);
    EXPECT_NEAR(mean.mean[i], sum / kCurves, (8 + kCurves + 1) * kRounding);
  }
}

}  // namespace
}  // namespace zerostep
