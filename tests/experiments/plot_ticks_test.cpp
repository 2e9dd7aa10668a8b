#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "experiments/plot/label_places.h"
#include "experiments/plot/text_width.h"
#include "experiments/plot/ticks.h"

namespace zerostep {
namespace {

std::vector<std::string> labels(const Scale& scale, AxisUnit unit, int most) {
  std::vector<std::string> out;
  for (const Tick& tick : ticks_of(scale, unit, most))
    if (!tick.label.empty()) out.push_back(tick.label);
  return out;
}

using Texts = std::vector<std::string>;

TEST(PlotTicks, TicksAreRoundValuesInAUnitThatPeopleRead) {
  EXPECT_EQ(labels({0, 10}, AxisUnit::Number, 5), (Texts{"0", "2", "4", "6", "8", "10"}));
  EXPECT_EQ(labels({1.9, 3.1}, AxisUnit::Number, 5), (Texts{"2.00", "2.25", "2.50", "2.75", "3.00"}));
  EXPECT_EQ(labels({0, 100000}, AxisUnit::Number, 5), (Texts{"0", "20k", "40k", "60k", "80k", "100k"}));
  EXPECT_EQ(labels({-2e6, 3e6}, AxisUnit::Number, 5), (Texts{"-2M", "-1M", "0", "1M", "2M", "3M"}));
  EXPECT_EQ(labels({0, 3.0 * (1 << 30)}, AxisUnit::Bytes, 3), (Texts{"0", "1 GiB", "2 GiB", "3 GiB"}));
  EXPECT_EQ(labels({0, 1.5 * (1 << 20)}, AxisUnit::Bytes, 3), (Texts{"0", "0.5 MiB", "1.0 MiB", "1.5 MiB"}));
  EXPECT_EQ(labels({0, 3600}, AxisUnit::Seconds, 4), (Texts{"0", "20 min", "40 min", "60 min"}));
  EXPECT_EQ(labels({0, 4e-4}, AxisUnit::Number, 4), (Texts{"0", "0.0001", "0.0002", "0.0003", "0.0004"}));
}

// Doubles have no round values between these.
TEST(PlotTicks, BoundsThatDifferByTheirLastBitHaveAnEndOfTicks) {
  for (double low : {2.0, 0.1, 1e15, 1e16, 1e300, -2.0}) {
    const double high = std::nextafter(low, HUGE_VAL);
    EXPECT_EQ(ticks_of({low, high}, AxisUnit::Number, 5).size(), 1U) << low;
    const Scale scale = scale_of(low, high, false, AxisUnit::Number);
    EXPECT_LT(scale.low, low);
    EXPECT_GT(scale.high, high);
    const size_t ticks = ticks_of(scale, AxisUnit::Number, 5).size();
    EXPECT_GE(ticks, 3U);
    EXPECT_LE(ticks, 20U);
  }
}

TEST(PlotTicks, LogarithmicTicksStandAtPowersOfTen) {
  EXPECT_EQ(labels({1, 1e4, true}, AxisUnit::Number, 5), (Texts{"1", "10", "100", "1k", "10k"}));
  EXPECT_EQ(labels({1, 1000, true}, AxisUnit::Number, 5), (Texts{"1", "10", "100", "1000"}));
  EXPECT_EQ(labels({1e-5, 1e-2, true}, AxisUnit::Number, 5), (Texts{"1e-5", "1e-4", "0.001", "0.01"}));
  EXPECT_EQ(labels({1, 100, true}, AxisUnit::Number, 8), (Texts{"1", "2", "5", "10", "20", "50", "100"}));
  // Marks between them have no label.
  EXPECT_EQ(ticks_of({1, 1e4, true}, AxisUnit::Number, 5).size(), 4 * 9 + 1U);
  // Less than a decade has round values as any axis.
  EXPECT_EQ(labels({2, 4, true}, AxisUnit::Number, 4), (Texts{"2.0", "2.5", "3.0", "3.5", "4.0"}));
}

TEST(PlotTicks, LogarithmicAxesOfAnyRangeHaveLabelsToReadBetween) {
  EXPECT_EQ(labels({3, 40, true}, AxisUnit::Number, 2), (Texts{"5", "10", "20"}));
  EXPECT_EQ(labels({0.03, 30, true}, AxisUnit::Number, 2), (Texts{"0.1", "1", "10"}));
  for (double low = 1e-4; low < 1e4; low *= 1.37)
    for (double ratio : {1.02, 1.5, 3.0, 9.0, 11.0, 40.0, 900.0, 1e4, 1e7, 1e15})
      for (int most : {2, 3, 5, 11}) {
        const Scale scale{low, low * ratio, true};
        const std::vector<std::string> found = labels(scale, AxisUnit::Number, most);
        EXPECT_GE(found.size(), 2U) << low << " x " << ratio << ", about " << most;
        EXPECT_LE(found.size(), static_cast<size_t>(3 * most + 2)) << low << " x " << ratio;
        EXPECT_EQ(std::set(found.begin(), found.end()).size(), found.size()) << low << " x " << ratio;
      }
}

// Of numbers at the ends of what a double holds every value has a pixel within the axis, and every tick a value that its label says.
TEST(PlotTicks, ScalesHoldTheSmallestAndTheLargestNumbers) {
  constexpr double kTiny = std::numeric_limits<double>::denorm_min(), kHuge = std::numeric_limits<double>::max();
  const std::vector<std::pair<double, double>> ranges{{1e-322, 3e-322},    {kTiny, kTiny},  {kTiny, 1},    {-1e-322, 1e-322},
                                                      {-1.7e308, 1.7e308}, {-kHuge, kHuge}, {1, kHuge},    {kTiny, kHuge},
                                                      {1.6e308, 1.7e308},  {kHuge, kHuge},  {-kHuge, -1.0}};
  for (const auto& [low, high] : ranges)
    for (bool is_log : {false, true}) {
      if (is_log && low <= 0) continue;
      for (const Scale& scale : {scale_of(low, high, is_log, AxisUnit::Number), tight_scale_of(low, high, is_log, AxisUnit::Number)}) {
        EXPECT_LE(scale.low, low);
        EXPECT_GE(scale.high, high);
        for (double value : {low, high}) {
          const double pixel = scale.to_pixel(value, 40, 640);
          EXPECT_TRUE(pixel >= 40 && pixel <= 640) << low << " to " << high << ": " << pixel;
          EXPECT_TRUE(std::isfinite(scale.to_value(pixel, 40, 640)));
        }
        for (AxisUnit unit : {AxisUnit::Number, AxisUnit::Bytes, AxisUnit::Seconds}) {
          const std::vector<Tick> ticks = ticks_of(scale, unit, 5);
          EXPECT_GE(ticks.size(), high > kTiny ? 2U : 1U) << low << " to " << high;  // there is one number above the smallest
          EXPECT_LE(ticks.size(), 60U) << low << " to " << high;
          for (const Tick& tick : ticks) {
            EXPECT_TRUE(std::isfinite(tick.value)) << low << " to " << high;
            EXPECT_EQ(tick.label.find_first_of("?#"), std::string::npos) << tick.label;
            for (const char* none : {"nan", "inf"}) EXPECT_EQ(tick.label.find(none), std::string::npos) << tick.label;
          }
        }
      }
    }
  EXPECT_EQ(labels(scale_of(-1.7e308, 1.7e308, false, AxisUnit::Number), AxisUnit::Number, 4), (Texts{"-1e+308", "0", "1e+308"}));
}

TEST(PlotTicks, ScalesHoldTheirValuesWithALittleRoom) {
  for (const auto& [low, high] :
       {std::pair{2.13, 5.55}, std::pair{-3.0, 1e6}, std::pair{1e-9, 2e-9}, std::pair{4.0, 4.0}, std::pair{0.0, 0.0}}) {
    const Scale scale = scale_of(low, high, false, AxisUnit::Number);
    EXPECT_LE(scale.low, low);
    EXPECT_GE(scale.high, high);
    EXPECT_LT(scale.low, scale.high);
    if (high > low) {
      EXPECT_LT(scale.high - scale.low, 1.2 * (high - low)) << low << " to " << high;
    }
  }
  const Scale scale = scale_of(0.5, 2000, true, AxisUnit::Number);
  EXPECT_LT(scale.low, 0.5);
  EXPECT_GT(scale.low, 0.3);
  EXPECT_GT(scale.high, 2000);
  // What counts from 0 does not begin below it.
  EXPECT_EQ(scale_of(0.001, 9, false, AxisUnit::Number).low, 0);
}

TEST(PlotTicks, PixelsAndValuesAreInverse) {
  for (const Scale& scale : {Scale{2, 10, false}, Scale{0.01, 100, true}, Scale{9.5, -0.5, false}})
    for (double value : {2.5, 5.0, 9.0}) {
      // Four roundings of pixels below 640 are less than 2^-50 of the 600 that the scale is long, and others of its values as much again.
      const double length = scale.is_log ? value * std::log(scale.high / scale.low) : std::abs(scale.high - scale.low);
      EXPECT_NEAR(scale.to_value(scale.to_pixel(value, 40, 640), 40, 640), value, length * 0x1p-49);
    }
  EXPECT_DOUBLE_EQ((Scale{0, 10}.to_pixel(2.5, 100, 200)), 125);
  EXPECT_DOUBLE_EQ((Scale{1, 100, true}.to_pixel(10, 0, 50)), 25);
}

TEST(PlotTicks, ValuesHaveFourDigits) {
  EXPECT_EQ(short_value(3.14159, AxisUnit::Number), "3.142");
  EXPECT_EQ(short_value(123456, AxisUnit::Number), "123.5k");
  EXPECT_EQ(short_value(1536, AxisUnit::Bytes), "1.50 KiB");
  EXPECT_EQ(short_value(0.0123, AxisUnit::Seconds), "0.0123 s");
}

TEST(PlotLabels, DoNotCoverEachOtherAndMoveLittle) {
  EXPECT_EQ(spread({10, 100, 50}, 13, 0, 200), (std::vector<double>{10, 100, 50}));
  // Two at one height part to both sides.
  EXPECT_EQ(spread({100, 100}, 10, 0, 200), (std::vector<double>{95, 105}));
  // At an edge they go inwards.
  EXPECT_EQ(spread({0, 2, 4}, 10, 0, 200), (std::vector<double>{0, 10, 20}));
  EXPECT_EQ(spread({199, 200}, 10, 0, 200), (std::vector<double>{190, 200}));
  EXPECT_EQ(spread({0, 0, 200, 200, 100}, 20, 0, 200), (std::vector<double>{0, 20, 180, 200, 100}));
  EXPECT_TRUE(spread({1, 2, 3}, 10, 0, 19).empty());
}

TEST(PlotText, IsShortenedInTheMiddle) {
  EXPECT_EQ(shortened("short", 11, 100), "short");
  const std::string cut = shortened("a-rather-long-name-of-a-run", 11, 80);
  EXPECT_LE(text_width(cut, 11), 80);
  EXPECT_TRUE(cut.starts_with("a-") && cut.ends_with("run")) << cut;
  // No character of UTF-8 is cut in two.
  const std::string umlauts = shortened("\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4", 11, 40);
  for (size_t i = 0; i < umlauts.size(); ++i)
    if (umlauts[i] == '\xc3') {
      EXPECT_EQ(umlauts[++i], '\xa4');
    }
}

}  // namespace
}  // namespace zerostep
