#include "offload/host_perturb.h"

#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/half.h"
#include "base/noise_math.h"
#include "offload/host_optimizer.h"

namespace zerostep {
namespace {

using Values = std::vector<float>;
using Bytes = std::vector<unsigned char>;
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr NoiseKind kKinds[] = {NoiseKind::Gaussian, NoiseKind::Rademacher};
constexpr DType kTypes[] = {DType::F32, DType::BF16, DType::F16};

// Inside a tile, behind one of signs, and across a multiple of 2^32 blocks of normals.
constexpr uint64_t kFirsts[] = {0, 1, 63, 2049, (uint64_t{1} << 34) - 1000};
constexpr int64_t kCounts[] = {0, 1, 15, 64, 129, 1003, 5003};
const NoiseKey kKey{.seed = 0x9E3779B97F4A7C15, .step = 41, .stream = 6};

Values noise(NoiseKind kind, const NoiseKey& key, uint64_t first, int64_t count) {
  Values z(static_cast<size_t>(count));
  (kind == NoiseKind::Gaussian ? fill_normal : fill_rademacher)(key, first, count, z.data());
  return z;
}

Values weights(int64_t count) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  Values v(static_cast<size_t>(count));
  for (float& x : v) x = 0.02f * normal(random);
  const float special[] = {0.0f, -0.0f, 1e-45f, 3e-6f, 65504.0f, -65519.0f, 3.4e38f, kInf, -kInf, std::nanf("")};
  for (size_t i = 0; i < v.size(); i += 13) v[i] = special[i / 13 % std::size(special)];
  return v;
}

void put(Bytes& bytes, size_t i, float x, DType type) {
  const uint16_t half = type == DType::BF16 ? bf16_from_fp32(x) : fp16_from_fp32(x);
  std::memcpy(bytes.data() + i * size_of(type), type == DType::F32 ? static_cast<const void*>(&x) : &half, size_of(type));
}
float get(const unsigned char* bytes, size_t i, DType type) {
  if (type == DType::F32) {
    float x;
    std::memcpy(&x, bytes + 4 * i, 4);
    return x;
  }
  uint16_t half;
  std::memcpy(&half, bytes + 2 * i, 2);
  return type == DType::BF16 ? fp32_from_bf16(half) : fp32_from_fp16(half);
}
Bytes cast(const Values& v, DType type) {
  Bytes bytes(v.size() * size_of(type));
  for (size_t i = 0; i < v.size(); ++i) put(bytes, i, v[i], type);
  return bytes;
}
float rounded(float x, DType type) { return get(cast({x}, type).data(), 0, type); }

class HostPerturbTargets : public testing::Test {
 protected:
  void TearDown() override { hwy::SetSupportedTargetsForTest(0); }
  // Calls check for every instruction set of this machine that there is code for, and for the scalar code.
  static void for_each_target(const std::function<void()>& check) {
    hwy::SetSupportedTargetsForTest(0);
    const int64_t supported = hwy::SupportedTargets();
    std::set<std::string> names;
    for (int bit = 0; bit < 63; ++bit) {
      const int64_t target = int64_t{1} << bit;
      if ((supported & target) == 0 && target != HWY_STATIC_TARGET) continue;
      hwy::SetSupportedTargetsForTest(target);
      if (!names.insert(host_optimizer_target()).second) continue;
      SCOPED_TRACE(host_optimizer_target());
      check();
    }
    hwy::SetSupportedTargetsForTest(0);
    EXPECT_TRUE(names.contains("SCALAR"));
  }
};

// The outputs behind one byte of padding, so that nothing is aligned, with a guard behind them.
struct Pair {
  Bytes plus, minus;
  PerturbedPiece piece;

  Pair(const Bytes& base, DType base_type, DType target_type, uint64_t first, int64_t count, float epsilon)
      : plus(static_cast<size_t>(count) * size_of(target_type) + 2, 0x5A), minus(plus) {
    piece = {.base = base.data(),
             .base_type = base_type,
             .plus = plus.data() + 1,
             .minus = minus.data() + 1,
             .target_type = target_type,
             .first = first,
             .count = count,
             .epsilon = epsilon};
  }
};

void expect_pair(const Pair& pair, const Values& z) {
  const PerturbedPiece& s = pair.piece;
  for (const float sign : {1.0f, -1.0f}) {
    Bytes expected(pair.plus.size(), 0x5A);
    Bytes values(z.size() * size_of(s.target_type));
    for (size_t i = 0; i < z.size(); ++i) {
      put(values, i, std::fma(sign * s.epsilon, z[i], get(static_cast<const unsigned char*>(s.base), i, s.base_type)), s.target_type);
    }
    std::copy(values.begin(), values.end(), expected.begin() + 1);
    EXPECT_EQ(sign > 0 ? pair.plus : pair.minus, expected)
        << name_of(s.base_type) << " to " << name_of(s.target_type) << ", elements " << s.first << " + " << s.count;
  }
}

TEST_F(HostPerturbTargets, PairsEqualThePlainLoop) {
  for_each_target([] {
    for (const NoiseKind kind : kKinds) {
      for (const DType base_type : kTypes) {
        for (const DType target_type : kTypes) {
          for (const uint64_t first : kFirsts) {
            for (const int64_t count : kCounts) {
              const Bytes base = cast(weights(count), base_type);
              Pair pair(base, base_type, target_type, first, count, 1e-3f);
              perturb(pair.piece, kind, kKey);
              const Values z = noise(kind, kKey, first, count);
              expect_pair(pair, z);
              Pair given(base, base_type, target_type, first, count, 1e-3f);
              perturb_with(given.piece, z.data());
              EXPECT_TRUE(given.plus == pair.plus && given.minus == pair.minus);
            }
          }
        }
      }
    }
  });
}

TEST_F(HostPerturbTargets, TilesAreTilesOfTheWhole) {
  constexpr int64_t kRows = 9, kStride = 4200;
  const Values matrix = noise(NoiseKind::Gaussian, {.seed = 3}, 0, kRows * kStride);
  for_each_target([&] {
    for (const NoiseKind kind : kKinds) {
      // The whole matrix along the noise of its elements from `first` on.
      for (const uint64_t first : {uint64_t{0}, uint64_t{64}, uint64_t{1001}, (uint64_t{1} << 34) - 3000}) {
        const Values z = noise(kind, kKey, first, kRows * kStride);
        for (const auto& [row, rows, column, columns] : {std::array<int64_t, 4>{0, 9, 0, 4200},
                                                         {2, 3, 64, 256},
                                                         {1, 8, 17, 100},
                                                         {5, 1, 2040, 16},
                                                         {0, 2, 4199, 1},
                                                         {3, 4, 1900, 2200}}) {
          Values plus(static_cast<size_t>(rows * columns) + 1, 77.0f), minus(plus);
          PerturbedTile tile{.base = matrix.data() + row * kStride + column,
                             .rows = rows,
                             .columns = columns,
                             .stride = kStride,
                             .plus = plus.data(),
                             .minus = minus.data(),
                             .first = first + static_cast<uint64_t>(row * kStride + column),
                             .epsilon = 1e-3f};
          perturb_tile(tile, kind, kKey);
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t c = 0; c < columns; ++c) {
              const auto at = static_cast<size_t>((row + r) * kStride + column + c), i = static_cast<size_t>(r * columns + c);
              ASSERT_EQ(plus[i], std::fma(1e-3f, z[at], matrix[at])) << first << " row " << row + r << " column " << column + c;
              ASSERT_EQ(minus[i], std::fma(-1e-3f, z[at], matrix[at])) << first << " row " << row + r << " column " << column + c;
            }
          }
          EXPECT_EQ(plus.back(), 77.0f);
          EXPECT_EQ(minus.back(), 77.0f);
          Values one(plus.size(), 77.0f);
          tile.plus = nullptr;
          tile.minus = one.data();
          perturb_tile(tile, kind, kKey);
          EXPECT_EQ(one, minus);
        }
      }
    }
  });
}

TEST(HostPerturb, EitherSideMayBeLeftOut) {
  const Bytes base = cast(weights(3000), DType::F32);
  for (const NoiseKind kind : kKinds) {
    for (const DType target : kTypes) {
      Pair both(base, DType::F32, target, 7, 3000, 0.1f), one(base, DType::F32, target, 7, 3000, 0.1f);
      const Bytes untouched = one.plus;
      perturb(both.piece, kind, kKey);
      one.piece.plus = nullptr;
      perturb(one.piece, kind, kKey);
      EXPECT_EQ(one.minus, both.minus);
      EXPECT_EQ(one.plus, untouched);
      one.piece.plus = one.plus.data() + 1;
      one.piece.minus = nullptr;
      perturb(one.piece, kind, kKey);
      EXPECT_EQ(one.plus, both.plus);
    }
  }
}

TEST_F(HostPerturbTargets, CountUnchangedIsTheCount) {
  for_each_target([] {
    for (const NoiseKind kind : kKinds) {
      for (const DType base_type : kTypes) {
        for (const DType target_type : kTypes) {
          for (const int64_t count : {0, 1, 77, 5003}) {
            const Bytes base = cast(weights(count), base_type);
            const Values z = noise(kind, kKey, 2049, count);
            int64_t expected = 0;
            for (size_t i = 0; i < z.size(); ++i) {
              const float x = get(base.data(), i, base_type);
              expected += rounded(std::fma(1e-4f, z[i], x), target_type) == rounded(x, target_type);
            }
            const Pair pair(base, base_type, target_type, 2049, count, 1e-4f);
            EXPECT_EQ(count_unchanged(pair.piece, kind, kKey), expected);
          }
        }
      }
    }
  });
}

// The share that the documents quote for weights near 0.02 in bf16.
TEST(HostPerturb, ThirtyTwoPercentOfBf16WeightsIgnoreASmallEpsilon) {
  constexpr int64_t n = 1 << 18;
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  Values v(n);
  for (float& x : v) x = normal(random);
  PerturbedPiece piece = {.base = v.data(), .target_type = DType::BF16, .count = n, .epsilon = 1e-4f};
  EXPECT_NEAR(static_cast<double>(count_unchanged(piece, NoiseKind::Gaussian, kKey)) / n, 0.32, 0.02);
  piece.epsilon = 1e-3f;
  EXPECT_NEAR(static_cast<double>(count_unchanged(piece, NoiseKind::Gaussian, kKey)) / n, 0.036, 0.004);
}

TEST_F(HostPerturbTargets, EstimateEqualsThePlainLoop) {
  const std::vector<uint32_t> directions = {5, 0, 77, 3};
  const Values scalars = {1.5f, -0.3f, 1e-3f, 700.0f};
  for_each_target([&] {
    for (const NoiseKind kind : kKinds) {
      for (const size_t q : {0, 1, 2, 4}) {
        for (const uint64_t first : kFirsts) {
          for (const int64_t count : kCounts) {
            Values expected(static_cast<size_t>(count) + 2, 7.0f), found = expected;
            std::fill(expected.begin() + 1, expected.end() - 1, 0.0f);
            for (size_t d = 0; d < q; ++d) {
              NoiseKey key = kKey;
              key.stream = directions[d];
              const Values z = noise(kind, key, first, count);
              for (size_t i = 0; i < z.size(); ++i) expected[i + 1] = std::fma(scalars[d], z[i], expected[i + 1]);
            }
            for (size_t i = 1; i + 1 < expected.size(); ++i) expected[i] = -0.3f * expected[i];
            noise_estimate(kind, kKey, directions.data(), scalars.data(), static_cast<int64_t>(q), -0.3f, first, count, found.data() + 1);
            ASSERT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0) << q << " " << first << " " << count;
          }
        }
      }
    }
    Values acc = weights(101), expected = acc;
    const Values z = noise(NoiseKind::Gaussian, kKey, 0, 101);
    for (size_t i = 0; i < 101; ++i) expected[i] = std::fma(0.7f, z[i], acc[i]);
    accumulate_scaled(0.7f, z.data(), 101, acc.data());
    EXPECT_EQ(cast(acc, DType::F32), cast(expected, DType::F32));
  });
}

Values low_rank_reference(const LowRankDirection::Shape& s, uint64_t seed, uint64_t step, uint64_t refresh, uint32_t direction) {
  const NoiseKey u_key{.seed = seed, .tag = NoiseTag::LowRankU, .step = step, .stream = direction};
  const NoiseKey v_key{.seed = seed, .tag = NoiseTag::LowRankV, .step = step / refresh, .stream = direction};
  Values z;
  for (int64_t i = 0; i < s.rows; ++i) {
    for (int64_t j = 0; j < s.columns; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < s.rank; ++k) {
        sum = std::fma(noise_normal(u_key, s.first + static_cast<uint64_t>(i * s.rank + k)),
                       noise_normal(v_key, s.first + static_cast<uint64_t>(j * s.rank + k)), sum);
      }
      z.push_back(sum * static_cast<float>(1 / std::sqrt(static_cast<double>(s.rank))));
    }
  }
  return z;
}

TEST_F(HostPerturbTargets, LowRankIsTheProductAndASliceIsASliceOfTheWhole) {
  std::mt19937_64 random(3);
  for (const auto& [rows, columns, rank] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {5, 3, 2}, {13, 67, 4}, {70, 33, 7}, {40, 600, 40}}) {
    const LowRankDirection::Shape shape{1001, rows, columns, rank};
    const Values expected = low_rank_reference(shape, 9, 25, 10, 3);
    for_each_target([&, rows = rows, columns = columns, rank = rank] {
      const LowRankDirection direction(shape, 9, 25, 10, 3);
      Values whole(expected.size());
      direction.fill(0, rows * columns, whole.data());
      ASSERT_EQ(whole, expected);
      for (int trial = 0; trial < 40; ++trial) {
        const auto begin = static_cast<int64_t>(random() % expected.size());
        const auto count = static_cast<int64_t>(random() % (expected.size() - static_cast<size_t>(begin) + 1));
        Values part(static_cast<size_t>(count) + 1, 7.0f);
        direction.fill(begin, count, part.data());
        ASSERT_TRUE(std::equal(part.begin(), part.end() - 1, expected.begin() + begin)) << begin << " + " << count;
        ASSERT_EQ(part.back(), 7.0f);
      }
      Values u(static_cast<size_t>(rows * rank));
      direction.fill_u(u.data());
      const NoiseKey u_key{.seed = 9, .tag = NoiseTag::LowRankU, .step = 25, .stream = 3};
      EXPECT_EQ(u, noise(NoiseKind::Gaussian, u_key, 1001, rows * rank));
      const NoiseKey v_key{.seed = 9, .tag = NoiseTag::LowRankV, .step = 2, .stream = 3};
      for (int64_t j = 0; j < columns; ++j) {
        const float v = direction.v_transposed()[static_cast<size_t>((rank - 1) * columns + j)];
        ASSERT_EQ(v, noise_normal(v_key, static_cast<uint64_t>(1001 + j * rank + rank - 1)));
      }
    });
  }
}

// E z z^T = I. The variance of z_a z_b is 1 + 2/r where a and b share a row or a column, 1 elsewhere; that of z_a^2 is 2 + 6/r.
TEST(HostPerturb, LowRankDirectionsAreUncorrelatedWithUnitVariance) {
  constexpr int64_t rows = 4, columns = 5, rank = 2, n = rows * columns;
  constexpr int kSamples = 40000;
  std::vector<double> sum(n), product(n * n);
  for (int t = 0; t < kSamples; ++t) {
    Values z(n);
    LowRankDirection({17, rows, columns, rank}, 5, static_cast<uint64_t>(t), 1, 2).fill(0, n, z.data());
    for (size_t a = 0; a < n; ++a) {
      sum[a] += z[a];
      for (size_t b = 0; b <= a; ++b) product[a * n + b] += double{z[a]} * z[b];
    }
  }
  for (size_t a = 0; a < n; ++a) {
    EXPECT_LT(std::fabs(sum[a]), 5 * std::sqrt(double{kSamples}));
    for (size_t b = 0; b <= a; ++b) {
      const bool shared = a / columns == b / columns || a % columns == b % columns;
      const double variance = a == b ? 2 + 6.0 / rank : shared ? 1 + 2.0 / rank : 1;
      EXPECT_LT(std::fabs(product[a * n + b] - (a == b ? kSamples : 0)), 5 * std::sqrt(kSamples * variance)) << a << " " << b;
    }
  }
}

TEST(HostPerturb, LowRankVIsRefreshedAndUIsNot) {
  const LowRankDirection::Shape shape{0, 20, 30, 3};
  const auto u = [](const LowRankDirection& d) {
    Values u(60);
    d.fill_u(u.data());
    return u;
  };
  const LowRankDirection a(shape, 1, 8, 4, 0), b(shape, 1, 11, 4, 0), c(shape, 1, 12, 4, 0), d(shape, 1, 8, 4, 1);
  EXPECT_EQ(a.v_transposed(), b.v_transposed());
  EXPECT_NE(a.v_transposed(), c.v_transposed());
  EXPECT_NE(a.v_transposed(), d.v_transposed());
  EXPECT_NE(u(a), u(b));
}

// The two neighbours of x in the 16-bit type, and where x lies between them.
struct Neighbours {
  float below, above;
  double fraction;
};
Neighbours neighbours_of(float x, DType type) {
  const bool bf16 = type == DType::BF16;
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), bf16 ? -126 : -14) - (bf16 ? 7 : 10));
  const double below = std::floor(x / unit) * unit, above = below + unit;
  return {static_cast<float>(below), !bf16 && above == 65536 ? kInf : static_cast<float>(above), (x - below) / unit};
}

TEST_F(HostPerturbTargets, StochasticRoundingIsUnbiased) {
  constexpr int64_t n = 1 << 18;
  for (const DType type : {DType::BF16, DType::F16}) {
    for (const float x : {1.003f, 0.0201f, -0.7771f, 65501.0f, 6.2e-5f, 5.91e-5f, -3.3e-6f, 1.3e-8f}) {
      std::vector<uint16_t> target(n);
      const Values source(n, x);
      round_stochastically(source.data(), target.data(), type, kKey, 12345, n);
      const Neighbours between = neighbours_of(x, type);
      int64_t above = 0;
      for (const uint16_t half : target) {
        const float y = type == DType::BF16 ? fp32_from_bf16(half) : fp32_from_fp16(half);
        const bool up = y == between.above;
        ASSERT_TRUE(up || y == between.below) << x << " became " << y;
        above += up;
      }
      const double p = between.fraction;
      EXPECT_LT(std::fabs(static_cast<double>(above) - n * p), 5 * std::sqrt(n * p * (1 - p)) + 1e-9) << x << " to " << name_of(type);
    }
  }
}

TEST_F(HostPerturbTargets, StochasticRoundingEqualsItsDefinition) {
  const NoiseKey key{.seed = 4, .tag = NoiseTag::Rounding, .step = 9};
  Values source = weights(4001);
  for (size_t i = 0; i < source.size(); i += 3) source[i] = std::ldexp(source[i], -static_cast<int>(i % 40));
  for_each_target([&] {
    for (const DType type : {DType::BF16, DType::F16}) {
      for (const uint64_t first : kFirsts) {
        for (const size_t count : {size_t{1}, size_t{33}, source.size()}) {
          std::vector<uint16_t> target(count + 2, 0x5A5A);
          round_stochastically(source.data(), target.data() + 1, type, key, first, static_cast<int64_t>(count));
          for (size_t i = 0; i < count; ++i) {
            const float x = source[i], y = rounded(x, type);
            const float found = type == DType::BF16 ? fp32_from_bf16(target[i + 1]) : fp32_from_fp16(target[i + 1]);
            ASSERT_EQ(std::signbit(found), std::signbit(x));
            if (std::isnan(x)) {
              ASSERT_TRUE(std::isnan(found));
            } else if (y == x || std::fabs(x) >= (type == DType::BF16 ? kInf : 65536.0f)) {
              ASSERT_EQ(found, y) << x;
            } else {
              const Neighbours between = neighbours_of(std::fabs(x), type);
              const double random = noise_bits(key, first + i) / 4294967296.0;
              const int bits = type == DType::BF16 ? 16 : std::fabs(x) < 0x1p-14f ? 32 : 13;
              const double kept = std::floor(std::ldexp(random, bits)), fraction = std::floor(std::ldexp(between.fraction, bits));
              const float expected = kept + fraction >= std::ldexp(1.0, bits) ? between.above : between.below;
              ASSERT_EQ(std::fabs(found), expected) << x << " at " << i;
            }
          }
          ASSERT_TRUE(target.front() == 0x5A5A && target.back() == 0x5A5A);
        }
      }
    }
  });
}

TEST(HostPerturb, StochasticRoundingKeepsEveryRepresentableValue) {
  for (const DType type : {DType::BF16, DType::F16}) {
    Values source(65536);
    std::vector<uint16_t> target(65536), all(65536);
    for (size_t i = 0; i < 65536; ++i) all[i] = static_cast<uint16_t>(i);
    cast_to_fp32(all.data(), type, source.data(), 65536);
    round_stochastically(source.data(), target.data(), type, kKey, 3, 65536);
    for (size_t i = 0; i < 65536; ++i) {
      const uint16_t quiet = type == DType::BF16 ? bf16_from_fp32(source[i]) : fp16_from_fp32(source[i]);
      ASSERT_EQ(target[i], std::isnan(source[i]) ? quiet : i);
    }
  }
}

TEST(HostPerturb, RefusesMisuse) {
  float x[4] = {};
  EXPECT_THROW(perturb({.base = x, .base_type = DType::F64, .count = 1}, NoiseKind::Gaussian, {}), ProtocolError);
  EXPECT_THROW(perturb({.base = x, .plus = x, .target_type = DType::F64, .count = 1}, NoiseKind::Gaussian, {}), ProtocolError);
  EXPECT_THROW(perturb({.base = x, .count = -1}, NoiseKind::Gaussian, {}), ProtocolError);
  EXPECT_THROW(perturb({.base = x, .count = 1}, NoiseKind::Gaussian, {.step = kNoiseMaxStep}), ProtocolError);
  EXPECT_THROW(count_unchanged({.base = x, .first = kNoiseMaxElements, .count = 1}, NoiseKind::Gaussian, {}), ProtocolError);
  EXPECT_THROW(round_stochastically(x, x, DType::F32, {}, 0, 1), ProtocolError);
  const uint32_t direction = kNoiseMaxStream;
  EXPECT_THROW(noise_estimate(NoiseKind::Gaussian, {}, &direction, x, 1, 1, 0, 1, x), ProtocolError);
  EXPECT_THROW(LowRankDirection({0, 4, 8, 5}, 1, 0, 1, 0), ProtocolError);
  EXPECT_THROW(LowRankDirection({0, 4, 8, 0}, 1, 0, 1, 0), ProtocolError);
  EXPECT_THROW(LowRankDirection({0, 4, 8, 2}, 1, 0, 0, 0), ProtocolError);
  EXPECT_THROW(LowRankDirection({0, 4, 8, 2}, 1, 0, 1, 0).fill(30, 3, x), ProtocolError);
}

}  // namespace
}  // namespace zerostep
