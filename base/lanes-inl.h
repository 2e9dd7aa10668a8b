// fp32 lanes, one float (Scalar) or a vector of them (Vector), and the element types from which they are loaded and to which they are
// stored, rounded to nearest even: the bits are those of half.h on every instruction set. Included once for each of them, as Highway's
// -inl headers are.
#if defined(ZEROSTEP_BASE_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ZEROSTEP_BASE_LANES_INL_H_
#undef ZEROSTEP_BASE_LANES_INL_H_
#else
#define ZEROSTEP_BASE_LANES_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/half.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;

// Whether a vector's fused multiply-add is rounded once, as std::fma is, and its size is fixed. Elsewhere kernels with explicit
// multiply-adds take Scalar, so that their bits do not depend on the machine.
#undef ZEROSTEP_FUSED_VECTORS
#define ZEROSTEP_FUSED_VECTORS (HWY_NATIVE_FMA && !HWY_HAVE_SCALABLE && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128)

// Addresses of any alignment.
template <typename T>
HWY_INLINE T load_any(const T* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
HWY_INLINE void store_any(T value, T* to) {
  std::memcpy(to, &value, sizeof value);
}

struct Scalar {
  using V = float;
  static constexpr int64_t kLanes = 1;
  static HWY_INLINE V set(float x) { return x; }
  static HWY_INLINE V load(const float* from) { return load_any(from); }
  static HWY_INLINE void store(V x, float* to) { store_any(x, to); }
  static HWY_INLINE V add(V a, V b) { return a + b; }
  static HWY_INLINE V sub(V a, V b) { return a - b; }
  static HWY_INLINE V mul(V a, V b) { return a * b; }
  static HWY_INLINE V div(V a, V b) { return a / b; }
  static HWY_INLINE V sqrt(V a) { return std::sqrt(a); }
  static HWY_INLINE V fma(V a, V b, V c) { return std::fma(a, b, c); }
  static HWY_INLINE int64_t count_equal(V a, V b) { return a == b; }
  static HWY_INLINE V sign(V a) { return a > 0 ? 1.0f : a < 0 ? -1.0f : a; }
  static HWY_INLINE void store_bf16(V x, uint16_t* to) { store_any(bf16_from_fp32(x), to); }
  static HWY_INLINE void store_fp16(V x, uint16_t* to) { store_any(fp16_from_fp32(x), to); }
  static HWY_INLINE V load_bf16(const uint16_t* from) { return fp32_from_bf16(load_any(from)); }
  static HWY_INLINE V load_fp16(const uint16_t* from) { return fp32_from_fp16(load_any(from)); }
};

struct Vector {
  using D = F32;
  using U = hn::RebindToUnsigned<D>;
  using I = hn::RebindToSigned<D>;
  using Narrow = hn::Rebind<uint16_t, D>;
  using V = VF;
  static constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  static HWY_INLINE V set(float x) { return hn::Set(D(), x); }
  static HWY_INLINE V load(const float* from) { return hn::LoadU(D(), from); }
  static HWY_INLINE void store(V x, float* to) { hn::StoreU(x, D(), to); }
  static HWY_INLINE V add(V a, V b) { return hn::Add(a, b); }
  static HWY_INLINE V sub(V a, V b) { return hn::Sub(a, b); }
  static HWY_INLINE V mul(V a, V b) { return hn::Mul(a, b); }
  static HWY_INLINE V div(V a, V b) { return hn::Div(a, b); }
  static HWY_INLINE V sqrt(V a) { return hn::Sqrt(a); }
  static HWY_INLINE V fma(V a, V b, V c) { return hn::MulAdd(a, b, c); }
  static HWY_INLINE int64_t count_equal(V a, V b) { return static_cast<int64_t>(hn::CountTrue(D(), hn::Eq(a, b))); }
  static HWY_INLINE V sign(V a) {
    const V zero = hn::Zero(D());
    return hn::IfThenElse(hn::Gt(a, zero), set(1.0f), hn::IfThenElse(hn::Lt(a, zero), set(-1.0f), a));
  }
  static HWY_INLINE void store_bf16(V x, uint16_t* to) { hn::StoreU(narrow_bf16(x), Narrow(), to); }
  static HWY_INLINE void store_fp16(V x, uint16_t* to) { hn::StoreU(narrow_fp16(x), Narrow(), to); }
  static HWY_INLINE V load_bf16(const uint16_t* from) {
    return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(U(), hn::LoadU(Narrow(), from))));
  }
  static HWY_INLINE V load_fp16(const uint16_t* from) { return widened_fp16(hn::LoadU(Narrow(), from)); }

  static HWY_INLINE hn::Vec<Narrow> narrow_bf16(V x) {
    const U u;
    const auto bits = hn::BitCast(u, x);
    const auto upper = hn::ShiftRight<16>(bits);
    const auto odd = hn::And(upper, hn::Set(u, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(u, 0x7FFF)), odd));
    const auto nan = hn::Or(upper, hn::Set(u, 0x40));
    const auto result = hn::IfThenElse(hn::RebindMask(u, hn::Eq(x, x)), rounded, nan);
    return hn::DemoteTo(Narrow(), hn::BitCast(I(), result));
  }
#if HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
  using Half = hn::Rebind<hwy::float16_t, D>;
  static HWY_INLINE hn::Vec<Narrow> narrow_fp16(V x) { return hn::BitCast(Narrow(), hn::DemoteTo(Half(), x)); }
  static HWY_INLINE V widened_fp16(hn::Vec<Narrow> x) { return hn::PromoteTo(D(), hn::BitCast(Half(), x)); }
#else  // the same bits without F16C
  static HWY_INLINE V widened_fp16(hn::Vec<Narrow> x) {
    const I i;
    const auto half = hn::BitCast(i, hn::PromoteTo(U(), x));
    const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(i, 0x8000)));
    const auto rest = hn::And(half, hn::Set(i, 0x7fff));
    const auto moved = hn::ShiftLeft<13>(rest);
    // Exponent and mantissa moved up and scaled by 2^112: exact, subnormals included.
    auto result = hn::BitCast(i, hn::Mul(hn::BitCast(D(), moved), set(0x1p112f)));
    result = hn::IfThenElse(hn::Gt(rest, hn::Set(i, 0x7bff)), hn::Or(moved, hn::Set(i, 0x7f800000)), result);
    result = hn::IfThenElse(hn::Gt(rest, hn::Set(i, 0x7c00)), hn::Or(result, hn::Set(i, 0x400000)), result);
    return hn::BitCast(D(), hn::Or(result, sign));
  }
  static HWY_INLINE hn::Vec<Narrow> narrow_fp16(V x) {
    const I i;
    const auto bits = hn::BitCast(i, x);
    const auto sign = hn::BitCast(i, hn::ShiftRight<16>(hn::And(hn::BitCast(U(), x), hn::Set(U(), 0x80000000u))));
    const auto rest = hn::And(bits, hn::Set(i, 0x7fffffff));
    // Normal results: rebias the exponent and round to nearest even on the 13 bits that go.
    const auto odd = hn::And(hn::ShiftRight<13>(rest), hn::Set(i, 1));
    const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(rest, hn::Set(i, 0xfff - (112 << 23))), odd));
    // Subnormal results: adding 0.5 makes the adder round at 2^-24.
    const auto subnormal = hn::Sub(hn::BitCast(i, hn::Add(hn::BitCast(D(), rest), set(0.5f))), hn::Set(i, 0x3f000000));
    auto result = hn::IfThenElse(hn::Lt(rest, hn::Set(i, 113 << 23)), subnormal, normal);
    result = hn::IfThenElse(hn::Gt(rest, hn::Set(i, 0x477fefff)), hn::Set(i, 0x7c00), result);  // 65520 and more
    const auto nan = hn::Or(hn::And(hn::ShiftRight<13>(rest), hn::Set(i, 0x3ff)), hn::Set(i, 0x7e00));
    result = hn::Or(hn::IfThenElse(hn::Gt(rest, hn::Set(i, 0x7f800000)), nan, result), sign);
    return hn::DemoteTo(Narrow(), result);
  }
#endif
};

// Element types: value() of one, load() and store() of lanes.
struct AsFloat {
  using T = float;
  static HWY_INLINE float value(T x) { return x; }
  template <class L = Vector>
  static HWY_INLINE typename L::V load(const T* from) {
    return L::load(from);
  }
  template <class L = Vector>
  static HWY_INLINE void store(typename L::V x, T* to) {
    L::store(x, to);
  }
};
struct AsBFloat16 {
  using T = uint16_t;
  static HWY_INLINE float value(T x) { return fp32_from_bf16(x); }
  template <class L = Vector>
  static HWY_INLINE typename L::V load(const T* from) {
    return L::load_bf16(from);
  }
  template <class L = Vector>
  static HWY_INLINE void store(typename L::V x, T* to) {
    L::store_bf16(x, to);
  }
};
struct AsHalf {
  using T = uint16_t;
  static HWY_INLINE float value(T x) { return fp32_from_fp16(x); }
  template <class L = Vector>
  static HWY_INLINE typename L::V load(const T* from) {
    return L::load_fp16(from);
  }
  template <class L = Vector>
  static HWY_INLINE void store(typename L::V x, T* to) {
    L::store_fp16(x, to);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#endif
