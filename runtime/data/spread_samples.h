#pragma once
#include <cstdint>

namespace zerostep {

// Of `chosen` samples spread evenly over `all` of a corpus: where sample `index` of them lies, the middle of its share.
inline int64_t spread_sample(int64_t index, int64_t chosen, int64_t all) {
  using Wide = __int128;  // the product of two counts may not fit 64 bits
  return static_cast<int64_t>((2 * static_cast<Wide>(index) + 1) * all / (2 * static_cast<Wide>(chosen)));
}

}  // namespace zerostep
