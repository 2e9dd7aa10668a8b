#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/dtype.h"

namespace zerostep {

// Whether memory that nobody may read any more is filled with NaNs (the build option ZEROSTEP_POISON): a read of it shows in every result,
// at the price of writing each gathered element once more.
#ifdef ZEROSTEP_POISON
constexpr bool kPoisonsReleasedSlots = true;
#else
constexpr bool kPoisonsReleasedSlots = false;
#endif

inline void fill_with_nan(void* data, DType type, int64_t num_elements) {
  if (type == DType::F32)
    std::fill_n(static_cast<float*>(data), num_elements, std::numeric_limits<float>::quiet_NaN());
  else if (type == DType::F64)
    std::fill_n(static_cast<double*>(data), num_elements, std::numeric_limits<double>::quiet_NaN());
  else
    std::fill_n(static_cast<uint16_t*>(data), num_elements, uint16_t{0x7fff});  // a NaN of bf16 and of fp16
}

}  // namespace zerostep
