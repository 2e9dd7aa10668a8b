#include "base/noise.h"

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/noise_math.h"

namespace zerostep {
namespace {

std::vector<float> normals(const NoiseKey& key, uint64_t begin, int64_t count) {
  std::vector<float> z(static_cast<size_t>(count));
  fill_normal(key, begin, count, z.data());
  return z;
}
std::vector<float> signs(const NoiseKey& key, uint64_t begin, int64_t count) {
  std::vector<float> z(static_cast<size_t>(count));
  fill_rademacher(key, begin, count, z.data());
  return z;
}
std::vector<uint32_t> bits(const NoiseKey& key, uint64_t begin, int64_t count) {
  std::vector<uint32_t> w(static_cast<size_t>(count));
  fill_bits(key, begin, count, w.data());
  return w;
}
template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}
double correlation(const std::vector<float>& a, const std::vector<float>& b, size_t lag = 0, bool squares = false) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i + lag < a.size(); ++i) {
    const double x = squares ? a[i] * double{a[i]} - 1 : a[i], y = squares ? b[i + lag] * double{b[i + lag]} - 1 : b[i + lag];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / std::sqrt(aa * bb);
}

// Restores the machine's own choice of instruction set at the end of a test.
class NoiseTargets : public testing::Test {
 protected:
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
};

TEST(Philox, KnownAnswersOfRandom123) {
  const auto check = [](PhiloxBlock counter, uint32_t key0, uint32_t key1, PhiloxBlock expected) {
    const PhiloxBlock found = philox4x32(counter, key0, key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(found.word[i], expected.word[i]) << "word " << i;
  };
  check({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  check({{~0u, ~0u, ~0u, ~0u}}, ~0u, ~0u, {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  check({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0, {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(Noise, CounterLayoutIsTheDocumentedOne) {
  const NoiseKey key{.seed = 0x1122334455667788, .tag = NoiseTag::Dropout, .step = 0xABCDEF0123, .stream = 0x456789};
  // Element 64 t + 16 k + b is word k of block 16 t + b.
  const uint64_t tile = 0x3456789ABCDEull;
  const uint64_t block = tile * 16 + 5;
  const PhiloxBlock counter = {{static_cast<uint32_t>(block), static_cast<uint32_t>(0x02000000 | block >> 32), 0xCDEF0123, 0x456789AB}};
  const PhiloxBlock expected = philox4x32(counter, 0x55667788, 0x11223344);
  for (uint64_t k = 0; k < 4; ++k) EXPECT_EQ(bits(key, tile * 64 + 16 * k + 5, 1)[0], expected.word[k]);
  // Element 2048 t + 512 k + 16 j + b is bit 31 - j of word k of block 16 t + b.
  const uint64_t sign_tile = block / 16;
  for (uint64_t k = 0; k < 4; ++k) {
    for (uint64_t j : {0, 1, 17, 31}) {
      const float sign = signs(key, sign_tile * 2048 + 512 * k + 16 * j + 5, 1)[0];
      EXPECT_EQ(sign, (expected.word[k] >> (31 - j) & 1) ? -1.0f : 1.0f);
    }
  }
}

// The normals against Box-Muller in double precision.
TEST(Noise, NormalsAreBoxMullerOfTheWords) {
  const NoiseKey key{.seed = 3, .step = 9, .stream = 4};
  const auto z = normals(key, 0, 1 << 16);
  const auto w = bits(key, 0, 1 << 16);
  double worst = 0;
  for (size_t e = 0; e < z.size(); ++e) {
    if (e / 16 % 2 != 0) continue;
    const uint32_t radius = w[e], angle = w[e + 16];
    const float u = static_cast<float>(static_cast<int32_t>(radius >> 1)) + 0.5f;  // in fp32, as it is specified
    const double r = std::sqrt(-2 * std::log(u / 2147483648.0));
    const double phi = static_cast<int32_t>(angle << 2) / 2147483648.0 * M_PI / 4;
    const double c = (angle >> 31 ? -1 : 1) * std::cos(phi), s = std::sin(phi);
    const bool exchange = angle >> 30 & 1;
    worst = std::max({worst, std::fabs(z[e] - r * (exchange ? s : c)), std::fabs(z[e + 16] - r * (exchange ? c : s))});
  }
  EXPECT_LT(worst, 1e-6);
  EXPECT_GT(worst, 0.0);
}

TEST(Noise, ExtremeWordsGiveFiniteNormals) {
  for (uint32_t radius : {0u, 1u, 2u, 3u, 0x7fffffffu, 0x80000000u, 0xb504f333u, 0xb504f334u, 0xfffffffeu, 0xffffffffu}) {
    for (uint32_t angle : {0u, 1u, 0x1fffffffu, 0x20000000u, 0x3fffffffu, 0x40000000u, 0x80000000u, 0xc0000000u, 0xffffffffu}) {
      const NormalPair z = normal_pair(radius, angle);
      const double u = ((radius >> 1) + 0.5) / 2147483648.0;
      EXPECT_NEAR(std::hypot(z.first, z.second), std::sqrt(-2 * std::log(u)), 4e-4) << radius << " " << angle;
      EXPECT_LT(std::fabs(z.first), 6.67f);
    }
  }
}

// Frozen values: a change of the stream would silently change every run that is resumed or rebuilt.
TEST(Noise, GoldenValues) {
  const NoiseKey key{.seed = 42, .tag = NoiseTag::Direction, .step = 7, .stream = 3};
  uint64_t hash = 1469598103934665603ull;
  for (const float z : normals(key, 1000, 4096)) hash = (hash ^ bits_of_float(z)) * 1099511628211ull;
  for (const float z : signs(key, 1000, 4096)) hash = (hash ^ bits_of_float(z)) * 1099511628211ull;
  for (const uint32_t w : bits(key, 1000, 4096)) hash = (hash ^ w) * 1099511628211ull;
  EXPECT_EQ(hash, 10960026213502500203ull);
}

TEST(Noise, EverySliceEqualsTheWhole) {
  const NoiseKey key{.seed = ~0ull, .tag = NoiseTag::LowRankV, .step = (1ull << 40) - 1, .stream = (1u << 24) - 1};
  std::mt19937_64 random(1);
  // Inside, across a multiple of 2^32 blocks (of normals: 2^34 elements, of signs: 2^39), and up to the last element.
  for (const uint64_t base : {uint64_t{0}, (uint64_t{1} << 34) - 5000, (uint64_t{1} << 39) - 5000, kNoiseMaxElements - 10000}) {
    const auto all = normals(key, base, 10000);
    const auto all_signs = signs(key, base, 10000);
    const auto all_bits = bits(key, base, 10000);
    for (int i = 0; i < 300; ++i) {
      const uint64_t begin = random() % 10000;
      const uint64_t count = std::min<uint64_t>(10000 - begin, i < 150 ? random() % 150 : random() % 10000);
      std::vector<float> z(count + 2, 77.0f), s(count + 2, 77.0f);
      std::vector<uint32_t> w(count + 2, 77);
      fill_normal(key, base + begin, static_cast<int64_t>(count), z.data() + 1);
      fill_rademacher(key, base + begin, static_cast<int64_t>(count), s.data() + 1);
      fill_bits(key, base + begin, static_cast<int64_t>(count), w.data() + 1);
      ASSERT_TRUE(std::equal(z.begin() + 1, z.end() - 1, all.begin() + static_cast<int64_t>(begin)));
      ASSERT_TRUE(std::equal(s.begin() + 1, s.end() - 1, all_signs.begin() + static_cast<int64_t>(begin)));
      ASSERT_TRUE(std::equal(w.begin() + 1, w.end() - 1, all_bits.begin() + static_cast<int64_t>(begin)));
      ASSERT_TRUE(z.front() == 77 && z.back() == 77 && s.front() == 77 && s.back() == 77 && w.front() == 77 && w.back() == 77);
    }
    for (const uint64_t e : {0, 63, 64, 4999, 5000, 9999}) {
      EXPECT_EQ(all[e], noise_normal(key, base + e));
      EXPECT_EQ(all_signs[e], noise_rademacher(key, base + e));
      EXPECT_EQ(all_bits[e], noise_bits(key, base + e));
    }
  }
}

TEST_F(NoiseTargets, AllGiveTheSameBits) {
  constexpr int64_t kCount = (2 << 20) + 77;
  const NoiseKey key{.seed = 0x9E3779B97F4A7C15, .step = 123456789, .stream = 31};
  hwy::SetSupportedTargetsForTest(HWY_STATIC_TARGET);
  const auto z = normals(key, 13, kCount);
  const auto s = signs(key, 13, kCount);
  const auto w = bits(key, 13, kCount);
  hwy::SetSupportedTargetsForTest(0);
  const int64_t supported = hwy::SupportedTargets();
  int compared = 0;
  for (int bit = 0; bit < 62; ++bit) {
    const int64_t target = int64_t{1} << bit;
    if ((supported & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    EXPECT_TRUE(same_bits(normals(key, 13, kCount), z)) << hwy::TargetName(target);
    EXPECT_TRUE(same_bits(signs(key, 13, kCount), s)) << hwy::TargetName(target);
    EXPECT_TRUE(same_bits(bits(key, 13, kCount), w)) << hwy::TargetName(target);
    ++compared;
  }
  EXPECT_GE(compared, 1);
}

TEST(Noise, MomentsAndTailsWithinFourSigma) {
  constexpr int64_t n = 8 << 20;
  const auto z = normals({.seed = 2024, .step = 5}, 0, n);
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  int64_t beyond[6] = {};
  std::vector<int64_t> bin(256);
  for (const float x : z) {
    const double d = x, d2 = d * d;
    m1 += d;
    m2 += d2;
    m3 += d2 * d;
    m4 += d2 * d2;
    const double a = std::fabs(d);
    for (int t = 1; t < 6; ++t) beyond[t] += a > t;
    ++bin[static_cast<size_t>(std::clamp((d + 4) * 32, 0.0, 255.0))];
  }
  const double count = n;
  EXPECT_LT(std::fabs(m1 / count), 4 / std::sqrt(count));
  EXPECT_LT(std::fabs(m2 / count - 1), 4 * std::sqrt(2 / count));
  EXPECT_LT(std::fabs(m3 / count), 4 * std::sqrt(15 / count));
  EXPECT_LT(std::fabs(m4 / count - 3), 4 * std::sqrt(96 / count));
  for (int t = 1; t < 6; ++t) {
    const double p = std::erfc(t / std::sqrt(2.0));
    EXPECT_LT(std::fabs(static_cast<double>(beyond[t]) - count * p), 4 * std::sqrt(count * p * (1 - p))) << "beyond " << t;
  }
  double chi_squared = 0;
  const auto cdf = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  for (int i = 0; i < 256; ++i) {
    const double low = i == 0 ? 0 : cdf(i / 32.0 - 4), high = i == 255 ? 1 : cdf((i + 1) / 32.0 - 4);
    const double expected = count * (high - low), d = static_cast<double>(bin[static_cast<size_t>(i)]) - expected;
    chi_squared += d * d / expected;
  }
  EXPECT_LT(std::fabs(chi_squared - 255), 4 * std::sqrt(2.0 * 255));
}

TEST(Noise, SignsAndBitsAreBalanced) {
  constexpr int64_t n = 4 << 20;
  const auto s = signs({.seed = 11}, 0, n);
  double sum = 0;
  for (const float x : s) {
    ASSERT_EQ(std::fabs(x), 1.0f);
    sum += x;
  }
  EXPECT_LT(std::fabs(sum), 4 * std::sqrt(double{n}));
  for (const size_t lag : {1, 2, 15, 16, 17, 512, 2048}) EXPECT_LT(std::fabs(correlation(s, s, lag)), 4 / std::sqrt(double{n})) << lag;

  const auto w = bits({.seed = 11, .tag = NoiseTag::Dropout}, 0, n);
  for (int bit = 0; bit < 32; ++bit) {
    int64_t ones = 0;
    for (const uint32_t x : w) ones += x >> bit & 1;
    EXPECT_LT(std::fabs(static_cast<double>(ones) - n / 2.0), 4 * std::sqrt(n / 4.0)) << bit;
  }
}

TEST(Noise, UncorrelatedAcrossKeysAndNeighbours) {
  constexpr int64_t n = 1 << 20;
  const double bound = 4 / std::sqrt(double{n});
  const NoiseKey key{.seed = 100, .tag = NoiseTag::Direction, .step = 50, .stream = 2};
  const auto z = normals(key, 0, n);
  const auto against = [&](NoiseKey other, const std::string& what) {
    const auto y = normals(other, 0, n);
    EXPECT_LT(std::fabs(correlation(z, y)), bound) << what;
    EXPECT_LT(std::fabs(correlation(z, y, 0, true)), bound) << what << ", squares";
  };
  for (const uint64_t step : {49, 51, 114}) against({key.seed, key.tag, step, key.stream}, "step " + std::to_string(step));
  against({key.seed, key.tag, key.step + (1ull << 32), key.stream}, "step + 2^32");
  for (const uint32_t stream : {0u, 1u, 3u, 2u << 16}) against({key.seed, key.tag, key.step, stream}, "stream " + std::to_string(stream));
  for (const uint64_t seed : {99ull, 101ull, 100ull + (1ull << 32)}) {
    against({seed, key.tag, key.step, key.stream}, "seed " + std::to_string(seed));
  }
  for (const NoiseTag tag : {NoiseTag::Dropout, NoiseTag::Rounding, NoiseTag::Initialisation}) {
    against({key.seed, tag, key.step, key.stream}, "tag " + std::to_string(static_cast<int>(tag)));
  }
  for (const size_t lag : {1, 2, 8, 15, 16, 17, 31, 32, 33, 48, 64, 128, 1000}) {
    EXPECT_LT(std::fabs(correlation(z, z, lag)), bound) << "lag " << lag;
    EXPECT_LT(std::fabs(correlation(z, z, lag, true)), bound) << "squares, lag " << lag;
  }
}

TEST(Noise, RefusesWhatTheCounterCannotHold) {
  float z = 0;
  EXPECT_THROW(fill_normal({.step = kNoiseMaxStep}, 0, 1, &z), ProtocolError);
  EXPECT_THROW(fill_normal({.stream = kNoiseMaxStream}, 0, 1, &z), ProtocolError);
  EXPECT_THROW(fill_normal({}, kNoiseMaxElements, 1, &z), ProtocolError);
  EXPECT_THROW(fill_rademacher({}, kNoiseMaxElements - 1, 2, &z), ProtocolError);
  EXPECT_THROW(fill_normal({}, ~0ull, 1, &z), ProtocolError);
  EXPECT_THROW(fill_normal({}, 0, -1, &z), ProtocolError);
  fill_normal({}, kNoiseMaxElements - 1, 1, &z);
  EXPECT_NE(z, 0.0f);
  fill_normal({}, 5, 0, nullptr);
}

}  // namespace
}  // namespace zerostep
