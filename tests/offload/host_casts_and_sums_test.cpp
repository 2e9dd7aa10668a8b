#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "base/error.h"
#include "offload/host_optimizer.h"
#include "tests/offload/support/host_kernels.h"

namespace zerostep {
namespace {

using test::bits;
using test::HostOptimizerTargets;
using test::kInf;
using test::kNan;
using test::kNasty;
using test::random_values;
using test::same;
using test::Values;

TEST_F(HostOptimizerTargets, SumOfSquares) {
  Values v = random_values(10007, 3.0f, 9);  // of such different sizes that the order of the sums shows
  for (size_t i = 0; i < v.size(); ++i) v[i] = std::ldexp(v[i], static_cast<int>(i * 7919 % 31) - 15);
  for (const int64_t count : {0, 1, 31, 32, 127, 128, 129, 255, 256, 10007}) {
    long double expected = 0;
    double lanes[32] = {};
    for (int64_t i = 0; i < count; ++i) expected += static_cast<long double>(v[static_cast<size_t>(i)]) * v[static_cast<size_t>(i)];
    // The documented order: a line of 16 values of each of eight streams in turn, then the rest.
    const int64_t length = count / 128 * 16;
    const auto add = [&](int64_t lane, int64_t i) {
      const double x = v[static_cast<size_t>(i)];
      lanes[lane] += x * x;
    };
    for (int64_t line = 0; line < length; line += 16) {
      for (int64_t s = 0; s < 8; ++s) {
        for (int64_t j = line; j < line + 16; ++j) add(8 * (s % 4) + j % 8, s * length + j);
      }
    }
    for (int64_t j = 0; j < count - 8 * length; ++j) add(j % 32, 8 * length + j);
    for (int half = 16; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) lanes[k] += lanes[k + half];
    }
    for_each_target([&](const char* target) {
      const double found = sum_of_squares(v.data(), count);
      EXPECT_EQ(found, lanes[0]) << target << " " << count;
      EXPECT_NEAR(found, static_cast<double>(expected), 1e-12 * static_cast<double>(expected));
      Values shifted(static_cast<size_t>(count) + 3);
      std::copy_n(v.begin(), count, shifted.begin() + 3);
      EXPECT_EQ(sum_of_squares(shifted.data() + 3, count), found);
    });
  }
}

TEST_F(HostOptimizerTargets, SumOfSquaresShowsEveryNonFiniteValueAndNeverOverflows) {
  for_each_target([](const char* target) {
    for (const float bad : {kInf, -kInf, kNan}) {
      for (const size_t at : {0, 17, 63, 64, 99}) {
        Values v(100, 1.0f);
        v[at] = bad;
        EXPECT_FALSE(std::isfinite(sum_of_squares(v.data(), 100))) << target << " " << bad << " at " << at;
      }
    }
    const Values large(100, 3e38f), small(100, 1e-45f);
    EXPECT_NEAR(sum_of_squares(large.data(), 100) / (100 * double{3e38f} * double{3e38f}), 1.0, 1e-14);
    EXPECT_NEAR(sum_of_squares(small.data(), 100) / (100 * double{1e-45f} * double{1e-45f}), 1.0, 1e-14);
  });
}

// Casts, against a table of all values of the 16-bit type.
double value_of(uint16_t half, DType type) {
  if (type == DType::BF16) return double{std::bit_cast<float>(uint32_t{half} << 16)};
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const double sign = half >> 15 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  return sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
}

// Nearest even among the non-negative values, by search; beyond the largest value as if one more followed it.
uint16_t nearest(float x, DType type) {
  const auto sign = static_cast<uint16_t>(bits(x) >> 16 & 0x8000);
  const double a = std::fabs(double{x});
  const uint16_t infinity = type == DType::BF16 ? 0x7F80 : 0x7C00;
  uint16_t low = 0, high = infinity;
  if (std::isinf(a)) return sign | infinity;
  while (high - low > 1) {
    const auto middle = static_cast<uint16_t>((low + high) / 2);
    (value_of(middle, type) <= a ? low : high) = middle;
  }
  const double below = value_of(low, type);
  const double above = high == infinity ? 2 * below - value_of(static_cast<uint16_t>(low - 1), type) : value_of(high, type);
  const double down = a - below, up = above - a;
  return sign | (down < up || (down == up && low % 2 == 0) ? low : high);
}

TEST_F(HostOptimizerTargets, CastsRoundToNearestEven) {
  for (const DType type : {DType::BF16, DType::F16}) {
    Values values = kNasty;
    const uint16_t infinity = type == DType::BF16 ? 0x7F80 : 0x7C00;
    for (int h = 0; h + 1 < infinity; ++h) {  // every value, every midpoint, and the neighbours of the midpoints
      const double a = value_of(static_cast<uint16_t>(h), type), b = value_of(static_cast<uint16_t>(h + 1), type);
      const auto middle = static_cast<float>((a + b) / 2);
      for (const float x : {static_cast<float>(a), middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInf)}) {
        values.push_back(x);
        values.push_back(-x);
      }
    }
    for (const float x : {65519.996f, 65520.0f, 65536.0f, 3.3895314e38f, 3.3961775e38f, 3.4028235e38f, 2.9802322e-8f, 2.9802326e-8f}) {
      values.push_back(x);
    }
    std::mt19937 random(3);
    for (int i = 0; i < 100000; ++i) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
    std::vector<uint16_t> expected(values.size());
    for (size_t i = 0; i < values.size(); ++i) expected[i] = std::isnan(values[i]) ? 0 : nearest(values[i], type);
    for_each_target([&](const char* target) {
      std::vector<uint16_t> found(values.size() + 1, 7);
      cast_from_fp32(values.data(), found.data(), type, static_cast<int64_t>(values.size()));
      EXPECT_EQ(found.back(), 7);
      int failures = 0;
      for (size_t i = 0; i < values.size() && failures < 5; ++i) {
        const bool good = std::isnan(values[i]) ? std::isnan(value_of(found[i], type)) && found[i] >> 15 == bits(values[i]) >> 31
                                                : found[i] == expected[i];
        failures += !good;
        EXPECT_TRUE(good) << target << " " << name_of(type) << ": " << values[i] << " gives " << found[i] << ", expected " << expected[i];
      }
    });
  }
}

TEST_F(HostOptimizerTargets, CastsBackAreExact) {
  for (const DType type : {DType::BF16, DType::F16}) {
    std::vector<uint16_t> all(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    for_each_target([&](const char* target) {
      Values wide(all.size());
      cast_to_fp32(all.data(), type, wide.data(), 65536);
      std::vector<uint16_t> back(all.size());
      cast_from_fp32(wide.data(), back.data(), type, 65536);
      for (size_t i = 0; i < all.size(); ++i) {
        const double expected = value_of(all[i], type);
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(wide[i])) << target << " " << i;
        } else {
          ASSERT_EQ(bits(wide[i]), bits(static_cast<float>(expected))) << target << " " << i;
          ASSERT_EQ(back[i], all[i]) << target;
        }
      }
      Values one(1);
      cast_to_fp32(&all[0x3C01], type, one.data(), 1);
      EXPECT_EQ(one[0], wide[0x3C01]);
    });
  }
}

// NaNs keep their upper payload on every target, so that files written on two machines are equal.
TEST_F(HostOptimizerTargets, CastsKeepTheBitsOfNan) {
  Values nans;
  for (const uint32_t b : {0x7FC00000u, 0xFFC00000u, 0x7F800001u, 0x7FFFFFFFu, 0xFF812345u, 0x7FA5A5A5u}) {
    for (int i = 0; i < 7; ++i) nans.push_back(std::bit_cast<float>(b));
  }
  for (const DType type : {DType::BF16, DType::F16}) {
    hwy::SetSupportedTargetsForTest(HWY_STATIC_TARGET);
    std::vector<uint16_t> expected(nans.size());
    cast_from_fp32(nans.data(), expected.data(), type, static_cast<int64_t>(nans.size()));
    EXPECT_EQ(expected[0], type == DType::BF16 ? 0x7FC0 : 0x7E00);
    for_each_target([&](const char* target) {
      std::vector<uint16_t> found(nans.size());
      cast_from_fp32(nans.data(), found.data(), type, static_cast<int64_t>(nans.size()));
      EXPECT_EQ(found, expected) << target;
    });
  }
}

TEST(HostOptimizer, CastsOfFp32AreCopiesAndFp64IsRefused) {
  const Values v = random_values(33, 1, 1);
  Values copy(33);
  cast_from_fp32(v.data(), copy.data(), DType::F32, 33);
  EXPECT_TRUE(same(copy, v));
  Values back(33);
  cast_to_fp32(v.data(), DType::F32, back.data(), 33);
  EXPECT_TRUE(same(back, v));
  EXPECT_THROW(cast_from_fp32(v.data(), copy.data(), DType::F64, 1), ProtocolError);
  EXPECT_THROW(cast_to_fp32(v.data(), DType::F64, copy.data(), 1), ProtocolError);
}

}  // namespace
}  // namespace zerostep
