#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/poison.h"

namespace zerostep {
namespace {

// CMake says what was asked for: ZEROSTEP_TESTED_RELEASE and ZEROSTEP_TESTED_SANITIZER are 0 or 1.
TEST(BuildType, AReleaseChecksNoAssertions) {
#ifdef NDEBUG
  constexpr bool kAsserts = false;
#else
  constexpr bool kAsserts = true;
#endif
  EXPECT_EQ(kAsserts, ZEROSTEP_TESTED_RELEASE == 0);
}

TEST(BuildType, SanitizerBuildsPoisonAndOthersDoSoOnlyWhenAsked) {
  EXPECT_EQ(kPoisonsReleasedSlots, ZEROSTEP_TESTED_POISON == 1);
  EXPECT_TRUE(kPoisonsReleasedSlots || ZEROSTEP_TESTED_SANITIZER == 0) << "a sanitizer build without ZEROSTEP_POISON";
}

TEST(Poison, FillsEveryElementOfEveryTypeAndNoMore) {
  std::vector<float> single(9, 1.0f);
  fill_with_nan(single.data() + 1, DType::F32, 7);
  std::vector<double> twice(9, 1.0);
  fill_with_nan(twice.data() + 1, DType::F64, 7);
  std::vector<uint16_t> half(9, 0x3f80);
  fill_with_nan(half.data() + 1, DType::BF16, 7);
  for (size_t i = 0; i < 9; ++i) {
    const bool inside = i > 0 && i < 8;
    EXPECT_EQ(std::isnan(single[i]), inside) << i;
    EXPECT_EQ(std::isnan(twice[i]), inside) << i;
    // A NaN of both 16-bit types: every bit of the exponent, and one below it.
    EXPECT_EQ(half[i], inside ? 0x7fff : 0x3f80) << i;
  }
}

}  // namespace
}  // namespace zerostep
