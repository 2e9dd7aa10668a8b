#pragma once
#include <algorithm>
#include <cstdint>

#include "base/dtype.h"
#include "models/memory_timeline.h"

namespace zerostep {

// Parts that the activation costs of all families share.

// The temporary through which a matrix's gradient [rows, columns] passes: none when it is fresh and of the activations' type. (What
// libraries take for themselves while they multiply is no tensor of ours: runtime/memory/workspace.h.)
inline int64_t gradient_temporary(DType compute_type, int64_t rows, int64_t columns, bool accumulating) {
  return is_16bit(compute_type) || accumulating ? num_bytes(rows * columns, compute_type) : 0;
}

// The highest of what is live while a product is made: `tell` tells a MemoryTimeline what happens, with sizes whose `product` is in use
// during each product.
template <typename Sizes, typename Tell>
int64_t products_peak(Sizes sizes, const Tell& tell) {
  constexpr int64_t kMarker = int64_t{1} << 60;
  sizes.product = kMarker;
  MemoryTimeline timeline;
  tell(sizes, timeline);
  return timeline.peak() - kMarker;
}

}  // namespace zerostep
