// Rows of any width as vectors of fp32 lanes: the last vector of a row may be a part of one. Included once for each instruction set.
#if defined(ZEROSTEP_MODELS_ROW_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ZEROSTEP_MODELS_ROW_LANES_INL_H_
#undef ZEROSTEP_MODELS_ROW_LANES_INL_H_
#else
#define ZEROSTEP_MODELS_ROW_LANES_INL_H_
#endif

#include <c10/core/ScalarType.h>
#include <hwy/highway.h>

#include <cstring>

#include "base/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// The first n values at p, zeros behind them.
template <typename As>
HWY_INLINE VF load_first(const typename As::T* p, int64_t n) {
  if (n >= static_cast<int64_t>(hn::Lanes(F32()))) return As::load(p);
  HWY_ALIGN typename As::T buffer[HWY_MAX_BYTES / 2] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(*p));
  return As::load(buffer);
}
template <typename As>
HWY_INLINE void store_first(VF v, typename As::T* p, int64_t n) {
  if (n >= static_cast<int64_t>(hn::Lanes(F32()))) return As::store(v, p);
  HWY_ALIGN typename As::T buffer[HWY_MAX_BYTES / 2];
  As::store(v, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(*p));
}
HWY_INLINE VF first_lanes(VF v, int64_t n) {
  const F32 d;
  return n >= static_cast<int64_t>(hn::Lanes(d)) ? v : hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(n)), v);
}
HWY_INLINE float total(VF v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }

// Calls f(j, number of values) for every vector of columns. The lambda has ZEROSTEP_INLINED: it is called at two places, of which the first
// knows that the vector is whole.
#undef ZEROSTEP_INLINED
#define ZEROSTEP_INLINED HWY_ATTR __attribute__((always_inline))
template <class F>
HWY_INLINE void for_columns(int64_t width, const F& f) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t j = 0;
  for (; j + lanes <= width; j += lanes) f(j, lanes);
  if (j < width) f(j, width - j);
}

// Calls f with the element type (AsFloat and its like) of a kernel's operands.
template <class F>
HWY_INLINE void with_element_type(at::ScalarType type, const F& f) {
  if (type == at::kFloat) return f(AsFloat());
  if (type == at::kHalf) return f(AsHalf());
  f(AsBFloat16());
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#endif
