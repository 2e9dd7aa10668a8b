#include "experiments/text/blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace zerostep {
namespace {

const double kNaN = std::nan("");

TEST(Blocks, ASparklineGoesFromTheLowestToTheHighestBlock) {
  const std::vector<double> values{0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(sparkline(values, 8), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(sparkline(values, 100), "▁▂▃▄▅▆▇█");  // no more than there are values
  EXPECT_EQ(sparkline(std::vector<double>{7, 0}, 8), "█▁");
}

TEST(Blocks, ASparklineTakesTheMeanOfEqualShares) {
  // Means 0.5, 2.5, 4.5, 6.5: evenly spaced from the lowest block to the highest.
  EXPECT_EQ(sparkline(std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7}, 4), "▁▃▆█");
  // Shares of 7 values among 3: 0 and 1, 2 and 3, 4 to 6.
  EXPECT_EQ(sparkline(std::vector<double>{0, 0, 7, 7, 14, 14, 14}, 3), "▁▅█");
  std::vector<double> many(100000);
  std::iota(many.begin(), many.end(), 0.0);
  EXPECT_EQ(sparkline(many, 8), "▁▂▃▄▅▆▇█");
}

TEST(Blocks, WhatIsNoNumberIsABlankAndChangesNoOther) {
  EXPECT_EQ(sparkline(std::vector<double>{0, kNaN, 7}, 3), "▁ █");
  EXPECT_EQ(sparkline(std::vector<double>{0, kNaN, 7, INFINITY}, 2), "▁█");  // means of 0 and of 7
  EXPECT_EQ(sparkline(std::vector<double>{kNaN, kNaN}, 2), "  ");
  EXPECT_EQ(sparkline({}, 5), "");
  EXPECT_EQ(sparkline(std::vector<double>{3, 3, 3}, 3), "▅▅▅");
}

TEST(Blocks, ColumnsFillTheirHeightByEighths) {
  // Two lines have 16 eighths; the lowest value has 1, the highest 16, the middle 1 + 15/2 rounded up: 9, a full line and an eighth.
  const std::vector<std::string> lines = columns_of_blocks(std::vector<double>{0, 0.5, kNaN, 1}, 2, 2);
  EXPECT_EQ(lines, (std::vector<std::string>{"   ▁▁    ██ ", "▁▁ ██    ██ "}));
}

}  // namespace
}  // namespace zerostep
