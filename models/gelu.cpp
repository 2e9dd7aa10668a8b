#include "models/gelu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>

#include "base/error.h"
#include "base/simd_targets.h"
#include "models/kernel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/gelu.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "models/row_lanes-inl.h"

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

// s = 1 / (1 + e): value x s, derivative s + x s (e s) (2 y)'.
HWY_INLINE void value_and_derivative(VF x, VF* value, VF* derivative) {
  const F32 d;
  const VF square = hn::Mul(x, x), e = decay(x, square), s = hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), e));
  const VF slope = hn::Mul(hn::Set(d, kScale), hn::MulAdd(square, hn::Set(d, 3 * kCubic), hn::Set(d, 1.0f)));
  *value = hn::Mul(x, s);
  *derivative = hn::MulAdd(hn::Mul(*value, hn::Mul(e, s)), slope, s);
}

template <typename As>
HWY_INLINE void forward_vector(const typename As::T* x, typename As::T* y, int64_t n) {
  const VF v = load_first<As>(x, n);
  store_first<As>(hn::Div(v, hn::Add(hn::Set(F32(), 1.0f), decay(v, hn::Mul(v, v)))), y, n);
}

template <typename As>
HWY_INLINE void backward_vector(typename As::T* x, typename As::T* g, int64_t n) {
  VF value, derivative;
  value_and_derivative(load_first<As>(x, n), &value, &derivative);
  store_first<As>(value, x, n);
  store_first<As>(hn::Mul(load_first<As>(g, n), derivative), g, n);
}

template <typename As>
void forward_values(const typename As::T* x, typename As::T* y, int64_t count) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) forward_vector<As>(x + i, y + i, lanes);
  if (i < count) forward_vector<As>(x + i, y + i, count - i);
}

template <typename As>
void backward_values(typename As::T* x, typename As::T* g, int64_t count) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) backward_vector<As>(x + i, g + i, lanes);
  if (i < count) backward_vector<As>(x + i, g + i, count - i);
}

void gelu_forward(at::ScalarType type, const void* x, void* y, int64_t count) {
  with_element_type(type, [&](auto as) HWY_ATTR {
    using T = typename decltype(as)::T;
    forward_values<decltype(as)>(static_cast<const T*>(x), static_cast<T*>(y), count);
  });
}
void gelu_backward(at::ScalarType type, void* x, void* g, int64_t count) {
  with_element_type(type, [&](auto as) HWY_ATTR {
    using T = typename decltype(as)::T;
    backward_values<decltype(as)>(static_cast<T*>(x), static_cast<T*>(g), count);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(gelu_forward);
HWY_EXPORT(gelu_backward);

void run_forward(const at::Tensor& x, const at::Tensor& y) {
  at::parallel_for(0, x.numel(), kGrainElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(gelu_forward)(x.scalar_type(), element_of(x, begin), element_of(y, begin), end - begin);
  });
}

}  // namespace

at::Tensor tanh_gelu(const at::Tensor& x) {
  if (!has_lanes(x)) return at::gelu(x, "tanh");
  at::Tensor y = at::empty_like(x);
  run_forward(x, y);
  return y;
}

void tanh_gelu_(const at::Tensor& x) {
  if (has_lanes(x)) {
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
  if (has_lanes(x) && gradient.is_contiguous()) {
    at::parallel_for(0, x.numel(), kGrainElements, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(gelu_backward)(x.scalar_type(), element_of(x, begin), element_of(gradient, begin), end - begin);
    });
    x.unsafeGetTensorImpl()->bump_version();
  } else {
    at::Tensor value = x, g = gradient;
    at::gelu_backward_out(g, g, value, "tanh");
    at::gelu_(value, "tanh");
  }
}

}  // namespace zerostep
#endif
