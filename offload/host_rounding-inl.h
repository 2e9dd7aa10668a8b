// The stochastic rounding of rounding_math.h, for one float or a vector of them. Included once for every dispatch target, as Highway's -inl
// headers are.
#if defined(ZEROSTEP_OFFLOAD_HOST_ROUNDING_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ZEROSTEP_OFFLOAD_HOST_ROUNDING_INL_H_
#undef ZEROSTEP_OFFLOAD_HOST_ROUNDING_INL_H_
#else
#define ZEROSTEP_OFFLOAD_HOST_ROUNDING_INL_H_
#endif

#include <hwy/highway.h>

#include "base/lanes-inl.h"
#include "offload/rounding_math.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

struct StochasticBf16 {
  static HWY_INLINE uint16_t round(float x, uint32_t random) { return bf16_stochastically(x, random); }
#if ZEROSTEP_FUSED_VECTORS
  static HWY_INLINE hn::Vec<Vector::U> round(Vector::V x, hn::Vec<Vector::U> random) {
    const Vector::U u;
    const auto bits = hn::BitCast(u, x);
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::ShiftRight<16>(random)));
    const auto nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(u, 0x40));
    return hn::IfThenElse(hn::RebindMask(u, hn::Eq(x, x)), rounded, nan);
  }
#endif
};

struct StochasticFp16 {
  static constexpr uint32_t kNormal = 0x38800000;    // 2^-14
  static constexpr uint32_t kTooLarge = 0x47800000;  // 2^16
  static constexpr uint32_t kInfinity = 0x7F800000;

  static HWY_INLINE uint16_t round(float x, uint32_t random) { return fp16_stochastically(x, random); }
#if ZEROSTEP_FUSED_VECTORS
  static HWY_INLINE hn::Vec<Vector::U> round(Vector::V x, hn::Vec<Vector::U> random) {
    const Vector::U u;
    const Vector::I i;
    const auto bits = hn::BitCast(u, x);
    const auto sign = hn::And(hn::ShiftRight<16>(bits), hn::Set(u, 0x8000));
    const auto magnitude = hn::And(bits, hn::Set(u, 0x7FFFFFFF));
    const auto below = [&](uint32_t bound) HWY_ATTR {
      return hn::RebindMask(u, hn::Lt(hn::BitCast(i, magnitude), hn::Set(i, static_cast<int32_t>(bound))));
    };
    const auto rebased = hn::Sub(magnitude, hn::Set(u, 0x38000000));
    auto result = hn::ShiftRight<13>(hn::Add(rebased, hn::ShiftRight<19>(random)));
    const auto subnormal = below(kNormal);
    if (!hn::AllFalse(u, subnormal)) result = hn::IfThenElse(subnormal, round_subnormal(magnitude, random), result);
    result = hn::IfThenElse(below(kTooLarge), result, hn::Set(u, 0x7C00));
    const auto nan = hn::Or(hn::Set(u, 0x7E00), hn::And(hn::ShiftRight<13>(magnitude), hn::Set(u, 0x3FF)));
    return hn::Or(sign, hn::IfThenElse(below(kInfinity + 1), result, nan));
  }

 private:
  // The fraction's 32 bits are found in two halves: conversions of floats to unsigned integers are slow or missing.
  static HWY_INLINE hn::Vec<Vector::U> round_subnormal(hn::Vec<Vector::U> magnitude, hn::Vec<Vector::U> random) {
    const Vector::D d;
    const Vector::U u;
    const Vector::I i;
    const auto units = hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p24f));
    const auto whole = hn::ConvertTo(i, units);
    const auto shifted = hn::Mul(hn::Sub(units, hn::ConvertTo(d, whole)), hn::Set(d, 0x1p16f));
    const auto upper = hn::ConvertTo(i, shifted);
    const auto lower = hn::ConvertTo(i, hn::Mul(hn::Sub(shifted, hn::ConvertTo(d, upper)), hn::Set(d, 0x1p16f)));
    const auto fraction = hn::BitCast(u, hn::Or(hn::ShiftLeft<16>(upper), lower));
    const auto carry = hn::VecFromMask(u, hn::Lt(hn::Add(fraction, random), fraction));
    return hn::Sub(hn::BitCast(u, whole), carry);
  }
#endif
};

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#endif
