#include "runtime/memory/page_heap.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "runtime/memory/memory_meter.h"

namespace zerostep {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kOpenBytes = size_t{64} << 20;  // a call to the system opens so many addresses

[[noreturn]] void refuse(int error, const std::string& what) {
  throw MemoryError(fmt::format("memory of this machine: the system refuses {}: {}", what, std::strerror(error)));
}

size_t round_up_to(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

// Addresses for more than the machine's memory, so that blocks of a range can be neighbours. Where the process may not have so many
// (ulimit -v), ranges take a small part of what it may.
size_t range_bytes() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) return round_up_to(limit.rlim_cur / 16, kOpenBytes);
  const auto pages = static_cast<size_t>(std::max(1L, ::sysconf(_SC_PHYS_PAGES))), page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return round_up_to(2 * pages * page, kOpenBytes);
}

}  // namespace

PageHeap::~PageHeap() {
  for (const Range& range : ranges_) munmap(range.mapped, range.bytes + kHugePageBytes);
}

PageHeap::Range& PageHeap::add_range(size_t num_bytes) {
  const size_t bytes = std::max(range_bytes(), round_up_to(num_bytes, kOpenBytes));
  void* base = mmap(nullptr, bytes + kHugePageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) refuse(errno, fmt::format("{} bytes of addresses", bytes));
  auto* aligned = reinterpret_cast<std::byte*>(round_up_to(reinterpret_cast<uintptr_t>(base), kHugePageBytes));
  if (page_bytes_ >= kHugePageBytes) madvise(aligned, bytes, MADV_HUGEPAGE);  // a wish: small pages do too
  return ranges_.emplace_back(Range{base, aligned, bytes, 0, {}, {{0, bytes}}});
}

void PageHeap::open(Range& range, size_t end) {
  if (end <= range.opened) return;
  const size_t bytes = std::min(round_up_to(end, kOpenBytes), range.bytes) - range.opened;
  if (mprotect(range.base + range.opened, bytes, PROT_READ | PROT_WRITE) != 0)
    refuse(errno, fmt::format("{} bytes beside the {} that tensors hold", bytes, held_bytes()));
  range.opened += bytes;
  range.held.resize(range.opened / page_bytes_);
}

PageHeap::Block PageHeap::take(size_t num_bytes) {
  Range* range = nullptr;
  size_t place = 0;
  for (Range& r : ranges_)
    for (size_t i = 0; i < r.free.size(); ++i)
      if (r.free[i].bytes >= num_bytes && (range == nullptr || r.free[i].bytes < range->free[place].bytes)) {
        range = &r;
        place = i;
      }
  if (range == nullptr) {
    range = &add_range(num_bytes);
    place = 0;
  }
  Place& free = range->free[place];
  const size_t begin = free.begin, end = begin + num_bytes;
  open(*range, end);
  free = {end, free.bytes - num_bytes};
  if (free.bytes == 0) range->free.erase(range->free.begin() + static_cast<std::ptrdiff_t>(place));
  Block block{range->base + begin, 0};
  for (size_t page = begin / page_bytes_; page * page_bytes_ < end; ++page) {
    block.new_pages += range->held[page] ? 0 : 1;
    range->held[page] = true;
  }
  held_pages_ += block.new_pages;
  return block;
}

void PageHeap::give(std::byte* data, size_t num_bytes) {
  const auto range =
      std::find_if(ranges_.begin(), ranges_.end(), [&](const Range& r) { return data >= r.base && data < r.base + r.bytes; });
  const auto begin = static_cast<size_t>(data - range->base);
  std::vector<Place>& free = range->free;
  auto next = std::lower_bound(free.begin(), free.end(), begin, [](const Place& p, size_t at) { return p.begin < at; });
  const bool joins_next = next != free.end() && begin + num_bytes == next->begin;
  if (next != free.begin() && std::prev(next)->begin + std::prev(next)->bytes == begin) {
    std::prev(next)->bytes += num_bytes + (joins_next ? next->bytes : 0);
    if (joins_next) free.erase(next);
  } else if (joins_next) {
    *next = {begin, num_bytes + next->bytes};
  } else {
    free.insert(next, {begin, num_bytes});
  }
}

size_t PageHeap::release_free(size_t num_bytes) {
  size_t released = 0;
  for (Range& range : ranges_)
    for (auto place = range.free.rbegin(); place != range.free.rend(); ++place) {
      const size_t first = (place->begin + page_bytes_ - 1) / page_bytes_;
      size_t end = std::min((place->begin + place->bytes) / page_bytes_, range.held.size());
      while (end > first && released < num_bytes) {
        if (!range.held[end - 1]) {
          --end;
          continue;
        }
        size_t begin = end;
        while (begin > first && range.held[begin - 1] && released < num_bytes) {
          range.held[--begin] = false;
          released += page_bytes_;
        }
        if (madvise(range.base + begin * page_bytes_, (end - begin) * page_bytes_, MADV_DONTNEED) != 0)
          refuse(errno, fmt::format("to take back {} bytes", (end - begin) * page_bytes_));
        held_pages_ -= end - begin;
        end = begin;
      }
    }
  return released;
}

}  // namespace zerostep
