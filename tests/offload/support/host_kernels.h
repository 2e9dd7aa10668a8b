#pragma once
#include <hwy/highway.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "offload/host_optimizer.h"

namespace zerostep::test {

using Values = std::vector<float>;
inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

inline uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }

// Equal bits, where every NaN equals every other: which operand's payload survives is the instruction's choice.
inline testing::AssertionResult same(const Values& a, const Values& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << a.size() << " against " << b.size() << " values";
  for (size_t i = 0; i < a.size(); ++i) {
    if (bits(a[i]) != bits(b[i]) && !(std::isnan(a[i]) && std::isnan(b[i]))) {
      return testing::AssertionFailure() << "element " << i << ": " << a[i] << " against " << b[i];
    }
  }
  return testing::AssertionSuccess();
}

inline Values random_values(size_t count, float scale, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  Values v(count);
  for (float& x : v) x = scale * normal(random);
  return v;
}

inline const Values kNasty = {0.0f, -0.0f, 1e-45f, -1e-45f, 1.17549435e-38f, 1e-30f,   -1e30f,  3.4e38f, -3.4e38f,
                              kInf, -kInf, kNan,   1.0f,    -1.0f,           65504.0f, 65520.0f};

class HostOptimizerTargets : public testing::Test {
 protected:
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
  // Calls check for every instruction set of this machine that there is code for, and for the scalar code.
  static void for_each_target(const std::function<void(const char*)>& check) {
    hwy::SetSupportedTargetsForTest(0);
    const int64_t supported = hwy::SupportedTargets();
    for (int bit = 0; bit < 63; ++bit) {
      const int64_t target = int64_t{1} << bit;
      if ((supported & target) == 0 && target != HWY_STATIC_TARGET) continue;
      hwy::SetSupportedTargetsForTest(target);
      check(host_optimizer_target());
    }
    hwy::SetSupportedTargetsForTest(0);
  }
};

}  // namespace zerostep::test
