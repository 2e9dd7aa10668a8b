#include "sharding/flat_layout.h"

#include <gtest/gtest.h>

#include <numeric>

namespace zerostep {
namespace {

// Every element of every parameter belongs to exactly one rank, and places agree.
void expect_partition(const FlatLayout& layout) {
  std::vector<std::vector<int>> owned(static_cast<size_t>(layout.num_parameters()));
  for (int p = 0; p < layout.num_parameters(); ++p) owned[static_cast<size_t>(p)].assign(static_cast<size_t>(layout.size(p)), 0);
  for (int rank = 0; rank < layout.ranks(); ++rank) {
    int64_t last = 0;
    for (const auto& piece : layout.pieces(rank)) {
      EXPECT_GT(piece.count, 0);
      EXPECT_GE(piece.shard_offset, last);
      last = piece.shard_offset + piece.count;
      EXPECT_LE(last, layout.shard_elements());
      EXPECT_EQ(piece.full_offset, layout.offset(piece.parameter) + piece.parameter_offset);
      for (int64_t i = 0; i < piece.count; ++i)
        ++owned[static_cast<size_t>(piece.parameter)].at(static_cast<size_t>(piece.parameter_offset + i));
      // The shard's place and the full buffer's place are the same place of the same slice.
      bool found = false;
      for (const auto& s : layout.slices())
        found |= piece.shard_offset >= s.shard_begin && piece.shard_offset < s.shard_begin + s.per_rank &&
                 piece.full_offset == s.full_begin + rank * s.per_rank + piece.shard_offset - s.shard_begin;
      EXPECT_TRUE(found);
    }
  }
  for (const auto& parameter : owned)
    for (int count : parameter) ASSERT_EQ(count, 1);
}

TEST(FlatLayout, PartitionsOddParametersOverAnyNumberOfRanks) {
  const std::vector<int64_t> sizes = {1, 17, 64, 10007, 3, 0, 31, 4096};
  for (int ranks : {1, 2, 3, 4, 7, 64})
    for (int64_t limit : {int64_t{0}, int64_t{1}, int64_t{1000}, int64_t{3000}})
      for (bool round_robin : {false, true}) {
        const FlatLayout layout(sizes, {ranks, 16, limit, round_robin});
        expect_partition(layout);
        EXPECT_EQ(layout.full_elements() % (ranks * 16), 0);
        for (const auto& s : layout.slices())
          EXPECT_TRUE(limit == 0 || s.per_rank * ranks <= (limit + ranks * 16 - 1) / (ranks * 16) * (ranks * 16));
      }
}

TEST(FlatLayout, ALimitThatNoBufferReachesCutsNothing) {
  const std::vector<int64_t> sizes = {1, 17, 10007};
  for (int ranks : {1, 2, 3, 7})
    for (bool round_robin : {false, true})
      for (int64_t limit : {INT64_MAX, INT64_MAX - 1, INT64_MAX - ranks * 16, int64_t{1} << 62}) {
        const FlatLayout layout(sizes, {ranks, 16, limit, round_robin}), unlimited(sizes, {ranks, 16, 0, round_robin});
        ASSERT_EQ(layout.slices().size(), unlimited.slices().size()) << limit;
        EXPECT_EQ(layout.full_elements(), unlimited.full_elements()) << limit;
        expect_partition(layout);
      }
}

TEST(FlatLayout, OneSliceOfTwoParametersWorkedOutByHand) {
  const FlatLayout layout(std::vector<int64_t>{20, 10}, {2, 16, 0, false});
  EXPECT_EQ(layout.offset(0), 0);
  EXPECT_EQ(layout.offset(1), 32);
  EXPECT_EQ(layout.full_elements(), 64);  // 42 rounded up to 2 * 16
  EXPECT_EQ(layout.shard_elements(), 32);
  const auto first = layout.pieces(0), second = layout.pieces(1);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].count, 20);
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].parameter, 1);
  EXPECT_EQ(second[0].shard_offset, 0);
  const auto padding = layout.padding();
  ASSERT_EQ(padding.size(), 2U);
  EXPECT_EQ(padding[0].begin, 20);
  EXPECT_EQ(padding[0].count, 12);
  EXPECT_EQ(padding[1].begin, 42);
  EXPECT_EQ(padding[1].count, 22);
}

TEST(FlatLayout, SlicesKeepParametersContiguousAndShardsDense) {
  const FlatLayout layout(std::vector<int64_t>{1000}, {4, 16, 128, false});
  ASSERT_EQ(layout.slices().size(), 8U);  // 1000 rounded up to alignment is 1008 = 7 * 128 + 112, the last padded to 128
  int64_t at = 0;
  for (const auto& s : layout.slices()) {
    EXPECT_EQ(s.full_begin, at * 4);
    EXPECT_EQ(s.shard_begin, at);
    at += s.per_rank;
  }
  EXPECT_EQ(at, layout.shard_elements());
}

TEST(FlatLayout, RoundRobinGivesEveryRankAShareOfEveryParameter) {
  const std::vector<int64_t> sizes = {640, 128, 999};
  const FlatLayout layout(sizes, {2, 16, 0, true});
  for (int rank : {0, 1}) {
    std::vector<bool> seen(sizes.size());
    for (const auto& piece : layout.pieces(rank)) seen[static_cast<size_t>(piece.parameter)] = true;
    EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), 3) << "rank " << rank;
  }
  const FlatLayout plain(sizes, {2, 16, 0, false});
  EXPECT_EQ(plain.pieces(1).size(), 1U);  // without it rank 1 owns a part of the last parameter only
}

TEST(FlatLayout, AnEmptyGroupIsEmpty) {
  const FlatLayout layout(std::vector<int64_t>{}, {3, 16, 0, false});
  EXPECT_EQ(layout.full_elements(), 0);
  EXPECT_TRUE(layout.pieces(2).empty());
}

}  // namespace
}  // namespace zerostep
