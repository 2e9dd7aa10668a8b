#include "models/gelu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>

#include <cstddef>
#include <cstring>

#include "base/error.h"
#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/gelu.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "base/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

constexpr float kCubic = 0.044715f;
constexpr float kScale = 1.5957691216057308f;  // 2 sqrt(2/pi)

// exp(-2 y), kept finite so that the products below never meet 0 * inf.
HWY_INLINE VF decay(VF x, VF square) {
  const F32 d;
  const VF twice_y = hn::Mul(hn::Mul(x, hn::Set(d, kScale)), hn::MulAdd(square, hn::Set(d, kCubic), hn::Set(d, 1.0f)));
  return hn::Exp(d, hn::Min(hn::Neg(twice_y), hn::Set(d, 87.0f)));
}

struct Forward {
  HWY_INLINE VF operator()(VF x) const { return hn::Div(x, hn::Add(hn::Set(F32(), 1.0f), decay(x, hn::Mul(x, x)))); }
};

// s = 1 / (1 + e): value x s, derivative s + x s (e s) (2 y)'.
HWY_INLINE void value_and_derivative(VF x, VF* value, VF* derivative) {
  const F32 d;
  const VF square = hn::Mul(x, x), e = decay(x, square), s = hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), e));
  const VF slope = hn::Mul(hn::Set(d, kScale), hn::MulAdd(square, hn::Set(d, 3 * kCubic), hn::Set(d, 1.0f)));
  *value = hn::Mul(x, s);
  *derivative = hn::MulAdd(hn::Mul(*value, hn::Mul(e, s)), slope, s);
}

template <typename As>
void forward(const void* source, void* target, int64_t count) {
  using T = typename As::T;
  const auto* x = static_cast<const T*>(source);
  auto* y = static_cast<T*>(target);
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  const Forward f;
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) As::store(f(As::load(x + i)), y + i);
  if (i < count) {
    HWY_ALIGN T buffer[HWY_MAX_BYTES / 2] = {};
    std::memcpy(buffer, x + i, (count - i) * sizeof(T));
    As::store(f(As::load(buffer)), buffer);
    std::memcpy(y + i, buffer, (count - i) * sizeof(T));
  }
}

template <typename As>
HWY_INLINE void backward_vector(typename As::T* x, typename As::T* g) {
  VF value, derivative;
  value_and_derivative(As::load(x), &value, &derivative);
  As::store(value, x);
  As::store(hn::Mul(As::load(g), derivative), g);
}

template <typename As>
void backward(void* values, void* gradients, int64_t count) {
  using T = typename As::T;
  auto* x = static_cast<T*>(values);
  auto* g = static_cast<T*>(gradients);
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) backward_vector<As>(x + i, g + i);
  if (i < count) {
    HWY_ALIGN T x_buffer[HWY_MAX_BYTES / 2] = {};
    HWY_ALIGN T g_buffer[HWY_MAX_BYTES / 2] = {};
    const size_t bytes = (count - i) * sizeof(T);
    std::memcpy(x_buffer, x + i, bytes);
    std::memcpy(g_buffer, g + i, bytes);
    backward_vector<As>(x_buffer, g_buffer);
    std::memcpy(x + i, x_buffer, bytes);
    std::memcpy(g + i, g_buffer, bytes);
  }
}

void forward_f32(const void* x, void* y, int64_t n) { forward<AsFloat>(x, y, n); }
void forward_bf16(const void* x, void* y, int64_t n) { forward<AsBFloat16>(x, y, n); }
void forward_f16(const void* x, void* y, int64_t n) { forward<AsHalf>(x, y, n); }
void backward_f32(void* x, void* g, int64_t n) { backward<AsFloat>(x, g, n); }
void backward_bf16(void* x, void* g, int64_t n) { backward<AsBFloat16>(x, g, n); }
void backward_f16(void* x, void* g, int64_t n) { backward<AsHalf>(x, g, n); }

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(forward_f32);
HWY_EXPORT(forward_bf16);
HWY_EXPORT(forward_f16);
HWY_EXPORT(backward_f32);
HWY_EXPORT(backward_bf16);
HWY_EXPORT(backward_f16);

bool has_kernel(const at::Tensor& x) {
  const auto type = x.scalar_type();
  return x.device().is_cpu() && x.is_contiguous() && (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

constexpr int64_t kGrainElements = int64_t{1} << 14;  // a thread's least work

// Calls f(byte offset, count) over all elements with LibTorch's threads.
template <class F>
void in_parallel(const at::Tensor& x, const F& f) {
  const auto size = static_cast<int64_t>(x.element_size());
  at::parallel_for(0, x.numel(), kGrainElements, [&](int64_t begin, int64_t end) { f(begin * size, end - begin); });
}

void run_forward(const at::Tensor& x, const at::Tensor& y) {
  const auto* source = static_cast<const std::byte*>(x.const_data_ptr());
  auto* target = static_cast<std::byte*>(y.data_ptr());
  const auto type = x.scalar_type();
  in_parallel(x, [&](int64_t offset, int64_t count) {
    if (type == at::kBFloat16) return HWY_DYNAMIC_DISPATCH(forward_bf16)(source + offset, target + offset, count);
    if (type == at::kHalf) return HWY_DYNAMIC_DISPATCH(forward_f16)(source + offset, target + offset, count);
    HWY_DYNAMIC_DISPATCH(forward_f32)(source + offset, target + offset, count);
  });
}

void run_backward(const at::Tensor& x, const at::Tensor& gradient) {
  auto* values = static_cast<std::byte*>(x.data_ptr());
  auto* gradients = static_cast<std::byte*>(gradient.data_ptr());
  const auto type = x.scalar_type();
  in_parallel(x, [&](int64_t offset, int64_t count) {
    if (type == at::kBFloat16) return HWY_DYNAMIC_DISPATCH(backward_bf16)(values + offset, gradients + offset, count);
    if (type == at::kHalf) return HWY_DYNAMIC_DISPATCH(backward_f16)(values + offset, gradients + offset, count);
    HWY_DYNAMIC_DISPATCH(backward_f32)(values + offset, gradients + offset, count);
  });
}

}  // namespace

at::Tensor tanh_gelu(const at::Tensor& x) {
  if (!has_kernel(x)) return at::gelu(x, "tanh");
  at::Tensor y = at::empty_like(x);
  run_forward(x, y);
  return y;
}

void tanh_gelu_(const at::Tensor& x) {
  if (has_kernel(x)) {
    run_forward(x, x);
  } else {
    at::Tensor y = x;
    at::gelu_(y, "tanh");
  }
}

void tanh_gelu_backward_(const at::Tensor& x, const at::Tensor& gradient) {
  if (x.numel() != gradient.numel() || x.scalar_type() != gradient.scalar_type()) {
    fail_protocol("[gelu] {} values with {} gradients, or of different types", x.numel(), gradient.numel());
  }
  if (has_kernel(x) && gradient.is_contiguous()) {
    run_backward(x, gradient);
    x.unsafeGetTensorImpl()->bump_version();
  } else {
    at::Tensor value = x, g = gradient;
    at::gelu_backward_out(g, g, value, "tanh");
    at::gelu_(value, "tanh");
  }
}

}  // namespace zerostep
#endif
