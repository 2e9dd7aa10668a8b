#pragma once
#include <algorithm>
#include <cstdint>

#include "base/dtype.h"
#include "models/memory_timeline.h"

namespace zerostep {

// What LibTorch's own functions take beside their results, for activation costs.

// Products of `tokens` rows.
struct ProductCost {
  ProductCost(DType compute_type, int64_t tokens)
      : element(static_cast<int64_t>(size_of(compute_type))),
        reduced(is_16bit(compute_type)),
        half(compute_type == DType::F16),
        many_tokens(tokens >= 512) {}

  int64_t element;
  bool reduced, half, many_tokens;
  int64_t beside = 0;  // bytes that whoever asks has in use during each product

  // The temporary through which a matrix's gradient passes: none when it is fresh and of the activations' type.
  int64_t gradient(int64_t rows, int64_t columns, bool accumulating) const {
    return gradient_scratch() + (reduced || accumulating ? element * rows * columns : 0);
  }
  // What oneDNN's 16-bit products take beside: copies of blocks, sized by its own heuristics and the caches. An estimate, measured with
  // AMX; fp32 products (MKL) take nothing from LibTorch's allocator.
  int64_t scratch(int64_t reduced_over) const {
    if (!reduced) return beside;
    return beside + (half ? std::min<int64_t>((many_tokens ? 1442 : 700) * reduced_over, 1'900'000)
                          : std::min<int64_t>(5120 + 128 * reduced_over, 400'000));
  }
  int64_t gradient_scratch() const {
    if (!reduced) return 0;
    return many_tokens ? (half ? 1'400'000 : 740'000) : (half ? 190'000 : 68'000);
  }
};

// The highest of what is live while a product is made: `tell` tells a MemoryTimeline what happens, with sizes that have ProductCost
// products.
template <typename Sizes, typename Tell>
int64_t products_peak(Sizes sizes, const Tell& tell) {
  constexpr int64_t kMarker = int64_t{1} << 60;
  sizes.products.beside = kMarker;
  MemoryTimeline timeline;
  tell(sizes, timeline);
  return timeline.peak() - kMarker;
}

// CPU flash attention: score blocks of (queries x keys) by thread in fp32, and a 16-bit copy.
struct FlashCost {
  FlashCost(int64_t length, int64_t head_width, DType compute_type, int64_t threads) {
    const int64_t t = length, queries = std::min<int64_t>(t, t >= 768 ? 256 : t >= 192 ? 64 : 32), keys = std::min<int64_t>(t, 512);
    const int64_t copy = is_16bit(compute_type) ? 2 : 0;
    forward = threads * (4 * (queries * keys + 2 * queries + queries * head_width) + copy * queries * keys);
    backward = threads * (2 * queries * keys * (4 + copy) + 4 * queries);
  }
  int64_t forward, backward;
};

}  // namespace zerostep
