#include "models/swiglu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "base/error.h"
#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/swiglu.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "models/row_lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// 1 / (1 + exp(-x)); the exponential is kept finite so that products with it never meet 0 * inf.
HWY_INLINE VF sigmoid(VF x) {
  const F32 d;
  const VF one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(x), hn::Set(d, 87.0f)))));
}

template <typename As>
void swiglu_forward(const void* gate, const void* up, void* out, int64_t count) {
  using T = typename As::T;
  const auto *g = static_cast<const T*>(gate), *u = static_cast<const T*>(up);
  auto* y = static_cast<T*>(out);
  for_columns(count, [&](int64_t j, int64_t n) HWY_ATTR {
    const VF x = load_first<As>(g + j, n);
    store_first<As>(hn::Mul(hn::Mul(x, sigmoid(x)), load_first<As>(u + j, n)), y + j, n);
  });
}

template <typename As>
void swiglu_backward(void* gate, void* up, void* gradient, int64_t count) {
  using T = typename As::T;
  auto *g = static_cast<T*>(gate), *u = static_cast<T*>(up), *d = static_cast<T*>(gradient);
  for_columns(count, [&](int64_t j, int64_t n) HWY_ATTR {
    const VF x = load_first<As>(g + j, n), y = load_first<As>(u + j, n), of_out = load_first<As>(d + j, n);
    const VF s = sigmoid(x), silu = hn::Mul(x, s);
    const VF slope = hn::MulAdd(silu, hn::Sub(hn::Set(F32(), 1.0f), s), s);
    store_first<As>(hn::Mul(silu, y), g + j, n);
    store_first<As>(hn::Mul(of_out, silu), u + j, n);
    store_first<As>(hn::Mul(hn::Mul(of_out, y), slope), d + j, n);
  });
}

void swiglu_forward_f32(const void* g, const void* u, void* y, int64_t n) { swiglu_forward<AsFloat>(g, u, y, n); }
void swiglu_forward_bf16(const void* g, const void* u, void* y, int64_t n) { swiglu_forward<AsBFloat16>(g, u, y, n); }
void swiglu_forward_f16(const void* g, const void* u, void* y, int64_t n) { swiglu_forward<AsHalf>(g, u, y, n); }
void swiglu_backward_f32(void* g, void* u, void* d, int64_t n) { swiglu_backward<AsFloat>(g, u, d, n); }
void swiglu_backward_bf16(void* g, void* u, void* d, int64_t n) { swiglu_backward<AsBFloat16>(g, u, d, n); }
void swiglu_backward_f16(void* g, void* u, void* d, int64_t n) { swiglu_backward<AsHalf>(g, u, d, n); }

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(swiglu_forward_f32);
HWY_EXPORT(swiglu_forward_bf16);
HWY_EXPORT(swiglu_forward_f16);
HWY_EXPORT(swiglu_backward_f32);
HWY_EXPORT(swiglu_backward_bf16);
HWY_EXPORT(swiglu_backward_f16);

constexpr int64_t kGrainElements = int64_t{1} << 14;  // a thread's least work

void check(const at::Tensor& gate, const at::Tensor& other) {
  const auto type = gate.scalar_type();
  if (!gate.device().is_cpu() || !gate.is_contiguous() || !other.is_contiguous() || gate.sizes() != other.sizes() ||
      other.scalar_type() != type || (type != at::kFloat && type != at::kBFloat16 && type != at::kHalf)) {
    fail_protocol("[swiglu] expected contiguous tensors of one shape and of fp32, bf16 or fp16 on the CPU");
  }
}

std::byte* bytes_of(const at::Tensor& t, int64_t element) {
  return static_cast<std::byte*>(t.data_ptr()) + element * static_cast<int64_t>(t.element_size());
}

void forward_into(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out) {
  check(gate, up);
  at::parallel_for(0, gate.numel(), kGrainElements, [&](int64_t begin, int64_t end) {
    const std::byte *g = bytes_of(gate, begin), *u = bytes_of(up, begin);
    std::byte* y = bytes_of(out, begin);
    if (gate.scalar_type() == at::kFloat) return HWY_DYNAMIC_DISPATCH(swiglu_forward_f32)(g, u, y, end - begin);
    if (gate.scalar_type() == at::kHalf) return HWY_DYNAMIC_DISPATCH(swiglu_forward_f16)(g, u, y, end - begin);
    HWY_DYNAMIC_DISPATCH(swiglu_forward_bf16)(g, u, y, end - begin);
  });
}

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  at::Tensor out = at::empty(gate.sizes(), gate.options().requires_grad(false));
  forward_into(gate, up, out);
  return out;
}

void swiglu_(const at::Tensor& gate, const at::Tensor& up) { forward_into(gate, up, gate); }

void swiglu_backward_(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient) {
  check(gate, up);
  check(gate, gradient);
  at::parallel_for(0, gate.numel(), kGrainElements, [&](int64_t begin, int64_t end) {
    std::byte *g = bytes_of(gate, begin), *u = bytes_of(up, begin), *d = bytes_of(gradient, begin);
    if (gate.scalar_type() == at::kFloat) return HWY_DYNAMIC_DISPATCH(swiglu_backward_f32)(g, u, d, end - begin);
    if (gate.scalar_type() == at::kHalf) return HWY_DYNAMIC_DISPATCH(swiglu_backward_f16)(g, u, d, end - begin);
    HWY_DYNAMIC_DISPATCH(swiglu_backward_bf16)(g, u, d, end - begin);
  });
  gate.unsafeGetTensorImpl()->bump_version();
  up.unsafeGetTensorImpl()->bump_version();
}

}  // namespace zerostep
#endif
