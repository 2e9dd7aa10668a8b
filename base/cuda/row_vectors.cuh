#pragma once
#include "base/cuda/elements.cuh"
#include "base/ieee.h"

namespace zerostep::cuda {

// Vectors of eight elements of a row that belong to a lane: use(first element). The last one may be a part of one.
template <unsigned kLanes, class Use>
ZEROSTEP_HOST_DEVICE inline void for_vectors(int64_t width, unsigned lane, const Use& use) {
  for (int64_t j = int64_t{lane} * 8; j < width; j += int64_t{kLanes} * 8) use(j);
}

// Whether vectors of four elements of a row lie where one access reaches them.
template <class As>
ZEROSTEP_HOST_DEVICE inline bool is_aligned(const typename As::T* row) {
  return reinterpret_cast<uintptr_t>(row) % sizeof(typename As::Four) == 0;
}

// Elements [j, j + 8) of a row, of which those from `width` on are `beyond` and are not written.
template <class As>
ZEROSTEP_HOST_DEVICE inline void load_eight(const typename As::T* row, int64_t j, int64_t width, float beyond, float* out) {
  if (j + 8 <= width && is_aligned<As>(row)) {
    const auto* fours = reinterpret_cast<const typename As::Four*>(row + j);
    const typename As::Four a = fours[0], b = fours[1];
    As::values(a, out);
    As::values(b, out + 4);
    return;
  }
#pragma unroll
  for (int n = 0; n < 8; ++n) out[n] = j + n < width ? As::value(row[j + n]) : beyond;
}
template <class As>
ZEROSTEP_HOST_DEVICE inline void store_eight(const float* values, typename As::T* row, int64_t j, int64_t width) {
  if (j + 8 <= width && is_aligned<As>(row)) {
    auto* fours = reinterpret_cast<typename As::Four*>(row + j);
    store_four(As::four(values), fours);
    store_four(As::four(values + 4), fours + 1);
    return;
  }
#pragma unroll
  for (int n = 0; n < 8; ++n)
    if (j + n < width) row[j + n] = As::rounded(values[n]);
}
ZEROSTEP_HOST_DEVICE inline float sum_of_eight(const float* x) {
  return ieee_add(ieee_add(ieee_add(x[0], x[1]), ieee_add(x[2], x[3])), ieee_add(ieee_add(x[4], x[5]), ieee_add(x[6], x[7])));
}

}  // namespace zerostep::cuda
