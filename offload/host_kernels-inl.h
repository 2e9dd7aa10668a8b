// The optimizers' formulas, and elements of any type, over one vector or one float at a time: the same sequence of IEEE operations for
// both, so that body, tail and every target agree. Included once for every dispatch target, as Highway's -inl headers are.
#if defined(ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_
#undef ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_
#else
#define ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>

#include "base/lanes-inl.h"
#include "offload/host_optimizer.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// Hardware prefetchers stop at the end of every page; asking ahead keeps enough lines under way, the more so on a busy machine. A few lines
// of each of the four or so arrays that a kernel walks are all that a core has buffers for: those asked for earlier hold the next ones up
// (host_optimizer_bench: 2,048 bytes ahead take a quarter longer on Zen 4). Addresses behind the end are harmless.
HWY_INLINE void prefetch(const void* at) {
  constexpr uintptr_t kAheadBytes = 384;
  hwy::Prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(at) + kAheadBytes));
}

#undef ZEROSTEP_LANE_FUNCTION
#define ZEROSTEP_LANE_FUNCTION HWY_INLINE
#include "offload/optimizer_math.h"

// Element i of an array of the type As; NoCopy: nothing is stored.
struct NoCopy {};
template <class As, class L>
HWY_INLINE typename L::V load_at(const void* from, int64_t i) {
  return As::template load<L>(static_cast<const typename As::T*>(from) + i);
}
template <class As, class L>
HWY_INLINE void store_at(typename L::V x, void* to, int64_t i) {
  if constexpr (!std::is_same_v<As, NoCopy>) As::template store<L>(x, static_cast<typename As::T*>(to) + i);
}
template <class As>
HWY_INLINE void prefetch_at(const void* from, int64_t i) {
  if constexpr (!std::is_same_v<As, NoCopy>) prefetch(static_cast<const typename As::T*>(from) + i);
}

// Calls use(As) with the element type, which is fp32 or one of 16 bits.
template <class Use>
HWY_INLINE auto dispatch_type(DType type, const Use& use) {
  if (type == DType::F32) return use(AsFloat());
  if (type == DType::BF16) return use(AsBFloat16());
  return use(AsHalf());
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#endif
