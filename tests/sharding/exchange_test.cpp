#include "sharding/comm/exchange.h"

#include <gtest/gtest.h>

#include <map>

namespace zerostep {
namespace {

Transfer transfer(int from, int to, int64_t count) { return {from, to, nullptr, nullptr, count}; }

TEST(Exchange, BatchesAreBoundedByWhatOneRankGives) {
  // Three of rank 0, two of rank 1, and what no rank gives to another.
  const std::vector<Transfer> list = {transfer(0, 1, 10), transfer(0, 2, 11), transfer(0, 1, 12), transfer(1, 1, 13),
                                      transfer(1, 0, 14), transfer(2, 0, 0),  transfer(1, 2, 15)};
  const auto counts = [](const std::vector<Transfer>& batch) {
    std::vector<int64_t> all;
    for (const Transfer& t : batch) all.push_back(t.count);
    return all;
  };
  const auto two = batches_of(list, 3, 2);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(counts(two[0]), (std::vector<int64_t>{10, 11, 13, 14, 0, 15}));
  EXPECT_EQ(counts(two[1]), (std::vector<int64_t>{12}));
  const auto one = batches_of(list, 3, 1);
  ASSERT_EQ(one.size(), 3u);
  EXPECT_EQ(counts(one[0]), (std::vector<int64_t>{10, 13, 14, 0}));
  EXPECT_EQ(counts(one[1]), (std::vector<int64_t>{11, 15}));
  EXPECT_EQ(counts(one[2]), (std::vector<int64_t>{12}));
  EXPECT_EQ(batches_of(list, 3, 3).size(), 1u);
  EXPECT_TRUE(batches_of({}, 3, 3).empty());
}

TEST(Exchange, BetweenTwoRanksTheOrderStays) {
  std::vector<Transfer> list;
  for (int64_t i = 0; i < 1000; ++i) list.push_back(transfer(static_cast<int>(i * i % 5), static_cast<int>(i * 7 % 5), i));
  std::map<std::pair<int, int>, int64_t> last;
  size_t seen = 0;
  for (const auto& batch : batches_of(list, 5, 16)) {
    for (const Transfer& t : batch) {
      const auto [before, is_first] = last.try_emplace({t.from, t.to}, t.count);
      EXPECT_TRUE(is_first || t.from == t.to || t.count == 0 || before->second < t.count);
      before->second = t.count;
      ++seen;
    }
  }
  EXPECT_EQ(seen, list.size());
}

}  // namespace
}  // namespace zerostep
