// Optimizer arithmetic and casts over one vector, or one float, at a time: the same sequence of IEEE operations for both, so that body,
// tail and every target agree. Included once for every dispatch target, as Highway's -inl headers are.
#if defined(ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_
#undef ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_
#else
#define ZEROSTEP_OFFLOAD_HOST_KERNELS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "offload/half.h"
#include "offload/host_optimizer.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Without a fused multiply-add in the hardware everything is done one float at a time with std::fma, which is exact.
#undef ZEROSTEP_HOST_VECTORS
#define ZEROSTEP_HOST_VECTORS (HWY_NATIVE_FMA && !HWY_HAVE_SCALABLE && HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128)

// Hardware prefetchers stop at the end of every page; asking ahead keeps enough lines under way, the more so on a busy machine. Addresses
// behind the end are harmless.
HWY_INLINE void prefetch(const void* at) {
  constexpr uintptr_t kAheadBytes = 2048;
  hwy::Prefetch(reinterpret_cast<const char*>(reinterpret_cast<uintptr_t>(at) + kAheadBytes));
}

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

// One float as a vector of one lane.
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

#if ZEROSTEP_HOST_VECTORS
struct Vector {
  using D = hn::ScalableTag<float>;
  using U = hn::RebindToUnsigned<D>;
  using I = hn::RebindToSigned<D>;
  using V = hn::Vec<D>;
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
  static HWY_INLINE void store_bf16(V x, uint16_t* to) {
    const U u;
    const auto bits = hn::BitCast(u, x);
    const auto upper = hn::ShiftRight<16>(bits);
    const auto odd = hn::And(upper, hn::Set(u, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(u, 0x7FFF)), odd));
    const auto nan = hn::Or(upper, hn::Set(u, 0x40));
    const auto result = hn::IfThenElse(hn::RebindMask(u, hn::Eq(x, x)), rounded, nan);
    const hn::Rebind<uint16_t, D> narrow;
    hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(I(), result)), narrow, to);
  }
  static HWY_INLINE void store_fp16(V x, uint16_t* to) {
    const hn::Rebind<uint16_t, D> narrow;
    hn::StoreU(hn::BitCast(narrow, hn::DemoteTo(hn::Rebind<hwy::float16_t, D>(), x)), narrow, to);
  }
  static HWY_INLINE V load_bf16(const uint16_t* from) {
    const hn::Rebind<uint16_t, D> narrow;
    return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(U(), hn::LoadU(narrow, from))));
  }
  static HWY_INLINE V load_fp16(const uint16_t* from) {
    const hn::Rebind<uint16_t, D> narrow;
    return hn::PromoteTo(D(), hn::BitCast(hn::Rebind<hwy::float16_t, D>(), hn::LoadU(narrow, from)));
  }
};
#endif

// Optimizers: update(master, gradient, state...) -> the new master, states in place; frozen(): masters keep their bits. Coefficients are
// rounded to fp32 once.
template <bool kDecoupled>
struct Adam {
  static constexpr int kStates = 2;
  float weight_decay, decay, weight1, beta2, weight2, eps, inv_sqrt_correction, minus_step;

  Adam(const OptimizerSlice& slice, const AdamParameters& p)
      : weight_decay(slice.weight_decay),
        decay(static_cast<float>(1.0 - double{slice.lr} * double{slice.weight_decay})),
        weight1(static_cast<float>(1.0 - p.beta1)),
        beta2(static_cast<float>(p.beta2)),
        weight2(static_cast<float>(1.0 - p.beta2)),
        eps(static_cast<float>(p.eps)),
        inv_sqrt_correction(static_cast<float>(p.inv_sqrt_bias_correction2)),
        minus_step(static_cast<float>(-p.step_size)) {}
  bool frozen() const { return minus_step == 0 && (!kDecoupled || decay == 1); }

  template <class L, class V = typename L::V>
  HWY_INLINE V update(V p, V g, V& m, V& v) const {
    if constexpr (!kDecoupled) g = L::fma(L::set(weight_decay), p, g);
    m = L::fma(L::set(weight1), L::sub(g, m), m);
    v = L::fma(L::mul(L::set(weight2), g), g, L::mul(L::set(beta2), v));
    const V denominator = L::fma(L::sqrt(v), L::set(inv_sqrt_correction), L::set(eps));
    if constexpr (kDecoupled) p = L::mul(p, L::set(decay));
    return L::fma(L::set(minus_step), L::div(m, denominator), p);
  }
};

struct Sgd {
  static constexpr int kStates = 0;
  float weight_decay, minus_lr;

  explicit Sgd(const OptimizerSlice& slice) : weight_decay(slice.weight_decay), minus_lr(-slice.lr) {}
  bool frozen() const { return minus_lr == 0; }

  template <class L, class V = typename L::V>
  HWY_INLINE V update(V p, V g) const {
    return L::fma(L::set(minus_lr), L::fma(L::set(weight_decay), p, g), p);
  }
};

template <bool kFirst, bool kNesterov>
struct SgdMomentum {
  static constexpr int kStates = 1;
  float weight_decay, minus_lr, momentum, dampened;

  SgdMomentum(const OptimizerSlice& slice, const SgdParameters& p)
      : weight_decay(slice.weight_decay),
        minus_lr(-slice.lr),
        momentum(static_cast<float>(p.momentum)),
        dampened(static_cast<float>(1.0 - p.dampening)) {}
  bool frozen() const { return minus_lr == 0; }

  template <class L, class V = typename L::V>
  HWY_INLINE V update(V p, V g, V& buffer) const {
    g = L::fma(L::set(weight_decay), p, g);
    buffer = kFirst ? g : L::fma(L::set(momentum), buffer, L::mul(L::set(dampened), g));
    const V direction = kNesterov ? L::fma(L::set(momentum), buffer, g) : buffer;
    return L::fma(L::set(minus_lr), direction, p);
  }
};

struct Lion {
  static constexpr int kStates = 1;
  float decay, minus_lr, weight1, weight2;

  Lion(const OptimizerSlice& slice, const LionParameters& p)
      : decay(static_cast<float>(1.0 - double{slice.lr} * double{slice.weight_decay})),
        minus_lr(-slice.lr),
        weight1(static_cast<float>(1.0 - p.beta1)),
        weight2(static_cast<float>(1.0 - p.beta2)) {}
  bool frozen() const { return minus_lr == 0; }

  template <class L, class V = typename L::V>
  HWY_INLINE V update(V p, V g, V& m) const {
    const V difference = L::sub(g, m);
    const V direction = L::sign(L::fma(L::set(weight1), difference, m));
    m = L::fma(L::set(weight2), difference, m);
    return L::fma(L::set(minus_lr), direction, L::mul(p, L::set(decay)));
  }
};

// What is written in the compute type, kBytes an element.
struct NoCopy {
  static constexpr int64_t kBytes = 0;
  template <class L>
  static HWY_INLINE void store(typename L::V, void*, int64_t) {}
};
struct CopyFp32 {
  static constexpr int64_t kBytes = 4;
  template <class L>
  static HWY_INLINE void store(typename L::V x, void* to, int64_t i) {
    L::store(x, static_cast<float*>(to) + i);
  }
};
struct CopyBf16 {
  static constexpr int64_t kBytes = 2;
  template <class L>
  static HWY_INLINE void store(typename L::V x, void* to, int64_t i) {
    L::store_bf16(x, static_cast<uint16_t*>(to) + i);
  }
};
struct CopyFp16 {
  static constexpr int64_t kBytes = 2;
  template <class L>
  static HWY_INLINE void store(typename L::V x, void* to, int64_t i) {
    L::store_fp16(x, static_cast<uint16_t*>(to) + i);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#endif
