#include "runtime/plan/tensor_pieces.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace zerostep {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

// What LibTorch's allocator holds when tensors of these sizes are taken one after the other and none is given back: a tensor goes to the
// piece with the least room that suffices, or a new piece is taken; a rest that is no more than 1 MiB (512 bytes of a small piece) is lost.
class Pieces {
 public:
  void take(int64_t num_bytes) {
    const int64_t size = (num_bytes + 511) / 512 * 512;
    std::vector<int64_t>& rooms = size <= kMiB ? small_ : large_;
    auto best = rooms.end();
    for (auto at = rooms.begin(); at != rooms.end(); ++at)
      if (*at >= size && (best == rooms.end() || *at < *best)) best = at;
    if (best == rooms.end()) {
      const int64_t piece = size <= kMiB ? 2 * kMiB : size < 10 * kMiB ? 20 * kMiB : (size + 2 * kMiB - 1) / (2 * kMiB) * (2 * kMiB);
      held_ += piece;
      best = rooms.insert(rooms.end(), piece);
    }
    *best -= size;
    if (*best <= (size <= kMiB ? 511 : kMiB)) *best = 0;
  }
  int64_t held() const { return held_; }

 private:
  std::vector<int64_t> small_, large_;
  int64_t held_ = 0;
};

int64_t beside(const std::vector<int64_t>& sizes, int64_t& sum) {
  Pieces pieces;
  sum = 0;
  for (const int64_t size : sizes) {
    pieces.take(size);
    sum += size;
  }
  return pieces.held() - sum;
}

TEST(TensorPieces, OneOfEachKindIsBegun) {
  EXPECT_EQ(most_beside_tensors(0, kMiB), 0);
  EXPECT_EQ(most_beside_tensors(1000, 100), 2 * kMiB + 500);
  EXPECT_EQ(most_beside_tensors(kMiB, 100), 2 * kMiB + kMiB / 2);
  EXPECT_EQ(most_beside_tensors(kMiB + 2, 100), 22 * kMiB + kMiB / 2 + 1);
  EXPECT_EQ(most_beside_tensors(400 * kMiB, 10 * kMiB - 1), 222 * kMiB);
  EXPECT_EQ(most_beside_tensors(400 * kMiB, 10 * kMiB), 122 * kMiB);
}

// The worst is a size of which two are just more than two thirds of a piece: the bound is met to the begun pieces.
TEST(TensorPieces, TensorsOfOneSizeStayWithinIt) {
  double worst = 0;
  for (int64_t size = 1000; size < 64 * kMiB; size += size / 37)
    for (const int count : {1, 2, 3, 7, 100}) {
      int64_t sum = 0;
      const int64_t found = beside(std::vector<int64_t>(static_cast<size_t>(count), size), sum), bound = most_beside_tensors(sum, size);
      ASSERT_LE(found, bound) << count << " of " << size;
      if (count == 100) worst = std::max(worst, static_cast<double>(found) / static_cast<double>(sum));
    }
  EXPECT_GT(worst, 0.45);
}

TEST(TensorPieces, MixedTensorsStayWithinIt) {
  std::mt19937 random(1);
  for (const int64_t output : {int64_t{3000}, 700 * kMiB / 1024, 3 * kMiB, 20 * kMiB / 3, 11 * kMiB, 33 * kMiB})
    for (int round = 0; round < 200; ++round) {
      std::vector<int64_t> sizes;
      for (int i = 0; i < 60; ++i) {
        const int kind = std::uniform_int_distribution<int>(0, 9)(random);
        // Outputs, queries with keys and values, insides of MLPs, scores; few are small.
        sizes.push_back(kind == 0 ? output / 64 + 1 : kind < 6 ? output : output * std::uniform_int_distribution<int>(2, 6)(random));
      }
      int64_t sum = 0;
      const int64_t found = beside(sizes, sum);
      ASSERT_LE(found, most_beside_tensors(sum, output)) << output << ", round " << round;
    }
}

}  // namespace
}  // namespace zerostep
