#include "base/exponential.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace zerostep {
namespace {

TEST(Exponential, IsWithinTwoUnitsOfTheExactValue) {
  double worst = 0;
  for (int64_t i = -8700000; i <= 8800000; i += 7) {
    const auto x = static_cast<float>(static_cast<double>(i) * 1e-5);
    const double exact = std::exp(static_cast<double>(x)), unit = std::ldexp(1.0, std::ilogb(exact) - 23);
    worst = std::max(worst, std::abs(static_cast<double>(exponential(x)) - exact) / unit);
  }
  EXPECT_LT(worst, 2);
  for (const float tiny : {1e-8f, 1e-30f, 0.0f, -0.0f, -1e-8f}) EXPECT_NEAR(exponential(tiny), 1.0f, 1.2e-7f);
}

TEST(Exponential, Ends) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exponential(-87.1f), 0);
  EXPECT_EQ(exponential(-3.4e38f), 0);
  EXPECT_EQ(exponential(-infinity), 0);
  EXPECT_TRUE(std::isnan(exponential(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace zerostep
