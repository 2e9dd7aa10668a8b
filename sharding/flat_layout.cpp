#include "sharding/flat_layout.h"

#include <algorithm>

#include "base/dtype.h"
#include "base/error.h"

namespace zerostep {

FlatLayout::FlatLayout(std::span<const int64_t> sizes, const Options& options) : options_(options), sizes_(sizes.begin(), sizes.end()) {
  if (options.ranks < 1 || options.alignment < 1)
    fail_protocol("[flat layout] expected ranks and alignment of at least 1, got {} and {}", options.ranks, options.alignment);
  const int64_t quantum = options.ranks * options.alignment;
  // A limit that cannot be rounded up to the quantum within 64 bits is more than any buffer holds.
  const bool is_limited = options.max_slice_elements > 0 && options.max_slice_elements <= INT64_MAX - quantum;
  const int64_t limit = is_limited ? round_up(options.max_slice_elements, quantum) : INT64_MAX;
  int64_t end = 0;  // of the last parameter placed
  const auto cut = [&](int64_t begin, int64_t until) {
    // Slices of [begin, until): full ones of `limit`, and a last one padded to the quantum.
    while (begin < until) {
      const int64_t length = until - begin > limit ? limit : round_up(until - begin, quantum);
      slices_.push_back({begin, length / options_.ranks, begin / options_.ranks});
      begin += length;
    }
    return begin;
  };
  int64_t slice_begin = 0;
  for (const int64_t size : sizes_) {
    if (size < 0) fail_protocol("[flat layout] a parameter of {} elements", size);
    offsets_.push_back(end);
    end = round_up(end + size, options.alignment);
    if (options.slice_per_parameter) slice_begin = end = cut(slice_begin, end);
  }
  full_elements_ = cut(slice_begin, end);
}

std::vector<FlatLayout::Piece> FlatLayout::pieces(int rank) const {
  std::vector<Piece> out;
  for (const Slice& slice : slices_) {
    const int64_t begin = slice.full_begin + rank * slice.per_rank, end = begin + slice.per_rank;
    // The first parameter that can reach into [begin, end).
    size_t p = static_cast<size_t>(std::upper_bound(offsets_.begin(), offsets_.end(), begin) - offsets_.begin());
    for (p = p > 0 ? p - 1 : 0; p < sizes_.size() && offsets_[p] < end; ++p) {
      const int64_t from = std::max(begin, offsets_[p]), to = std::min(end, offsets_[p] + sizes_[p]);
      if (from < to) out.push_back({static_cast<int>(p), from - offsets_[p], from, slice.shard_begin + from - begin, to - from});
    }
  }
  return out;
}

std::vector<FlatLayout::Range> FlatLayout::padding() const {
  std::vector<Range> out;
  int64_t at = 0;
  for (size_t p = 0; p < sizes_.size(); ++p) {
    if (offsets_[p] > at) out.push_back({at, offsets_[p] - at});
    at = offsets_[p] + sizes_[p];
  }
  if (full_elements_ > at) out.push_back({at, full_elements_ - at});
  return out;
}

}  // namespace zerostep
