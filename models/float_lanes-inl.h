// Loads and stores of the floating types as fp32 lanes; stores round to nearest even. Included once for each instruction set.
#if defined(ZEROSTEP_MODELS_FLOAT_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ZEROSTEP_MODELS_FLOAT_LANES_INL_H_
#undef ZEROSTEP_MODELS_FLOAT_LANES_INL_H_
#else
#define ZEROSTEP_MODELS_FLOAT_LANES_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;

struct AsFloat {
  using T = float;
  static HWY_INLINE VF load(const T* p) { return hn::LoadU(F32(), p); }
  static HWY_INLINE void store(VF v, T* p) { hn::StoreU(v, F32(), p); }
};

struct AsHalf {
  using T = hwy::float16_t;
  using D = hn::Rebind<hwy::float16_t, F32>;
  static HWY_INLINE VF load(const T* p) { return hn::PromoteTo(F32(), hn::LoadU(D(), p)); }
  static HWY_INLINE void store(VF v, T* p) { hn::StoreU(hn::DemoteTo(D(), v), D(), p); }
};

struct AsBFloat16 {
  using T = uint16_t;
  using D = hn::Rebind<uint16_t, F32>;
  using U32 = hn::RebindToUnsigned<F32>;
  static HWY_INLINE VF load(const T* p) { return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(U32(), hn::LoadU(D(), p)))); }
  static HWY_INLINE void store(VF v, T* p) {
    const U32 u;
    const auto bits = hn::BitCast(u, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(u, 0x7fff)));
    const auto quiet = hn::Or(bits, hn::Set(u, 0x00400000));
    const auto high = hn::ShiftRight<16>(hn::IfThenElse(hn::RebindMask(u, hn::IsNaN(v)), quiet, rounded));
    hn::StoreU(hn::DemoteTo(D(), hn::BitCast(hn::RebindToSigned<U32>(), high)), D(), p);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#endif
