#include "runtime/memory/page_heap.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <vector>

#include "runtime/memory/memory_meter.h"

namespace zerostep {
namespace {

constexpr size_t kPage = size_t{2} << 20;  // of the heap

size_t system_page() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }

// Pages of the system in [data, data + bytes) that it has given this process.
size_t resident_pages(const std::byte* data, size_t bytes) {
  std::vector<unsigned char> pages(bytes / system_page());
  EXPECT_EQ(mincore(const_cast<std::byte*>(data), bytes, pages.data()), 0);
  return static_cast<size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return (p & 1) != 0; }));
}

TEST(PageHeap, TakesTheSmallestPlaceThatFitsAndJoinsNeighbours) {
  PageHeap heap(kPage);
  const auto take = [&](size_t pages) { return heap.take(pages * kPage).data; };
  std::byte* const a = take(4);
  std::byte* const b = take(1);
  std::byte* const c = take(2);
  std::byte* const d = take(1);
  EXPECT_EQ(b, a + 4 * kPage);
  EXPECT_EQ(heap.held_bytes(), 8 * kPage);
  heap.give(a, 4 * kPage);
  heap.give(c, 2 * kPage);
  EXPECT_EQ(take(2), c) << "the smaller place";
  heap.give(c, 2 * kPage);
  heap.give(b, 1 * kPage);  // joins both sides
  EXPECT_EQ(take(7), a);
  heap.give(a, 7 * kPage);
  heap.give(d, kPage);  // joins the end
  EXPECT_EQ(take(9), a);
  EXPECT_EQ(heap.held_bytes(), 9 * kPage);
}

TEST(PageHeap, GivesFreePagesBackAndNoOthers) {
  PageHeap heap(kPage);
  const size_t bytes = 8 * kPage + 64;
  const PageHeap::Block first = heap.take(bytes), second = heap.take(bytes);
  EXPECT_EQ(first.new_pages, 9u);
  EXPECT_EQ(second.new_pages, 8u) << "the ninth page is shared";
  std::memset(first.data, 1, bytes);
  std::memset(second.data, 2, bytes);
  heap.give(second.data, bytes);
  EXPECT_EQ(heap.held_bytes(), 17 * kPage) << "free pages stay";
  EXPECT_EQ(heap.release_free(3 * kPage - 1), 3 * kPage) << "whole pages";
  EXPECT_EQ(heap.held_bytes(), 14 * kPage);
  EXPECT_EQ(resident_pages(first.data + 9 * kPage, 5 * kPage), 5 * kPage / system_page());
  EXPECT_EQ(resident_pages(first.data + 14 * kPage, 3 * kPage), 0u) << "the highest addresses go first";
  EXPECT_EQ(heap.release_free(SIZE_MAX), 5 * kPage) << "not the page that the first block ends on";
  EXPECT_EQ(heap.release_free(SIZE_MAX), 0u);
  EXPECT_TRUE(std::all_of(first.data, first.data + bytes, [](std::byte b) { return b == std::byte{1}; }));
  EXPECT_EQ(heap.take(bytes).new_pages, 8u) << "they come from the system again";
}

// Any order of blocks of any sizes: none overlaps another, contents stay, and pages are counted.
TEST(PageHeap, BlocksNeverOverlap) {
  PageHeap heap(kPage);
  std::mt19937 random(3);
  struct Held {
    std::byte* data;
    size_t bytes;
    unsigned char mark;
  };
  std::vector<Held> blocks;
  size_t live = 0, most = 0;
  for (int i = 0; i < 4000; ++i) {
    if (blocks.empty() || random() % 5 < (live < 64 * kPage ? 3u : 2u)) {
      const size_t bytes = 64 * (1 + (random() % 7 == 0 ? random() % (3 * kPage / 64) : random() % 1000));
      const Held block{heap.take(bytes).data, bytes, static_cast<unsigned char>(i)};
      for (const Held& other : blocks) ASSERT_TRUE(block.data + bytes <= other.data || other.data + other.bytes <= block.data);
      block.data[0] = block.data[bytes - 1] = std::byte{block.mark};
      blocks.push_back(block);
      live += bytes;
      most = std::max(most, live);
    } else {
      const size_t at = random() % blocks.size();
      const Held block = blocks[at];
      ASSERT_EQ(block.data[0], std::byte{block.mark});
      ASSERT_EQ(block.data[block.bytes - 1], std::byte{block.mark});
      heap.give(block.data, block.bytes);
      live -= block.bytes;
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(at));
    }
    if (i % 100 == 0) heap.release_free(random() % (8 * kPage));
    ASSERT_GE(heap.held_bytes(), live);
  }
  EXPECT_LT(heap.held_bytes(), 2 * most);
  for (const Held& block : blocks) heap.give(block.data, block.bytes);
  heap.release_free(SIZE_MAX);
  EXPECT_EQ(heap.held_bytes(), 0u);
}

TEST(PageHeap, BlocksLargerThanWhatIsOpenedAtOnce) {
  PageHeap heap(kPage);
  const size_t bytes = size_t{300} << 20;
  std::byte* const data = heap.take(bytes).data;
  data[0] = data[bytes - 1] = std::byte{1};
  EXPECT_EQ(heap.held_bytes(), bytes);
  EXPECT_EQ(heap.take(bytes).data, data + bytes);
}

// Where addresses are limited (ulimit -v), what the heap reserves leaves others theirs; blocks that find none are an error.
TEST(PageHeap, LeavesAddressesToOthersWhereTheyAreLimited) {
  const auto limited = [] {
    std::ifstream file("/proc/self/statm");
    size_t pages = 0;
    file >> pages;
    const size_t used = pages * system_page(), more = used / 8 + (size_t{4} << 30);
    const rlimit limit{used + more, used + more};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(3);
    PageHeap heap(kPage);
    for (int i = 0; i < 8; ++i) heap.take(size_t{128} << 20);
    if (mmap(nullptr, size_t{2} << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) std::_Exit(4);
    try {
      heap.take(more);
    } catch (const MemoryError& error) {
      std::fprintf(stderr, "%s\n", error.what());
      std::_Exit(0);
    }
    std::_Exit(5);
  };
  EXPECT_EXIT(limited(), ::testing::ExitedWithCode(0), "the system refuses .* bytes of addresses");
}

}  // namespace
}  // namespace zerostep
