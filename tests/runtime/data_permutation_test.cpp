#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "base/error.h"
#include "runtime/data/permutation.h"

namespace zerostep {
namespace {

std::vector<int64_t> order(int64_t size, uint64_t seed, int64_t epoch) {
  const Permutation permutation(size, seed, epoch);
  std::vector<int64_t> values;
  for (int64_t i = 0; i < size; ++i) values.push_back(permutation(i));
  return values;
}

TEST(DataPermutation, HitsEveryIndexOnce) {
  std::vector<int64_t> sizes = {63, 64, 65, 255, 256, 257, 1000, 4096, 4097, 30011};
  for (int64_t size = 1; size <= 33; ++size) sizes.push_back(size);
  for (int64_t size : sizes) {
    for (int64_t epoch : {0, 1, 7}) {
      std::vector<int64_t> values = order(size, 1234, epoch), all(static_cast<size_t>(size));
      std::iota(all.begin(), all.end(), 0);
      std::sort(values.begin(), values.end());
      ASSERT_EQ(values, all) << size << " in epoch " << epoch;
    }
  }
}

TEST(DataPermutation, DependsOnSeedAndEpochAlone) {
  EXPECT_EQ(order(1000, 5, 3), order(1000, 5, 3));
  EXPECT_NE(order(1000, 5, 3), order(1000, 5, 4));
  EXPECT_NE(order(1000, 5, 3), order(1000, 6, 3));
  EXPECT_NE(order(1000, 5, 3), order(1000, 5 + (uint64_t{1} << 40), 3));
}

// Chi-square of the 120 orders of five: 119 degrees of freedom, six standard deviations above the mean.
TEST(DataPermutation, EveryOrderOfAFewIsEquallyLikely) {
  std::map<std::vector<int64_t>, int> counts;
  constexpr int kEpochs = 24000;
  for (int64_t epoch = 0; epoch < kEpochs; ++epoch) ++counts[order(5, 99, epoch)];
  const double expected = kEpochs / 120.0;
  ASSERT_EQ(counts.size(), 120U);
  double chi_square = 0;
  for (const auto& [values, count] : counts) chi_square += (count - expected) * (count - expected) / expected;
  EXPECT_LT(chi_square, 119 + 6 * 15.4);
}

// A random permutation has one fixed point and one neighbour that stays a neighbour in the mean, whatever its size (both nearly Poisson).
TEST(DataPermutation, LooksRandomAtEverySize) {
  for (int64_t size : {17, 100, 1025, 5000}) {
    constexpr int kEpochs = 60;
    int64_t fixed = 0, neighbours = 0;
    for (int64_t epoch = 0; epoch < kEpochs; ++epoch) {
      const auto values = order(size, 7, epoch);
      for (size_t i = 0; i < values.size(); ++i) {
        fixed += values[i] == static_cast<int64_t>(i);
        neighbours += i > 0 && values[i] == values[i - 1] + 1;
      }
    }
    EXPECT_NEAR(static_cast<double>(fixed), kEpochs, 5 * 7.75) << size;
    EXPECT_NEAR(static_cast<double>(neighbours), kEpochs, 5 * 7.75) << size;
  }
}

TEST(DataPermutation, NeedsNoTable) {
  constexpr int64_t kSize = 3'000'000'000'001;
  const Permutation permutation(kSize, 1, 2);
  std::set<int64_t> values;
  for (int64_t i = 0; i < 20000; ++i) {
    const int64_t value = permutation(i % 2 ? kSize - 1 - i : i);
    ASSERT_GE(value, 0);
    ASSERT_LT(value, kSize);
    values.insert(value);
  }
  EXPECT_EQ(values.size(), 20000U);
  EXPECT_THROW(permutation(kSize), ProtocolError);
  EXPECT_THROW(permutation(-1), ProtocolError);
  EXPECT_THROW(Permutation(0, 1, 2), ProtocolError);
}

}  // namespace
}  // namespace zerostep
