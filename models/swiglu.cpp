#include "models/swiglu.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>

#include "base/error.h"
#include "base/simd_targets.h"
#include "models/device_kernels.h"
#include "models/kernel_rows.h"

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
void forward_rows(const void* gate, const void* up, void* out, int64_t count) {
  using T = typename As::T;
  const auto *g = static_cast<const T*>(gate), *u = static_cast<const T*>(up);
  auto* y = static_cast<T*>(out);
  for_columns(count, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
    const VF x = load_first<As>(g + j, n);
    store_first<As>(hn::Mul(hn::Mul(x, sigmoid(x)), load_first<As>(u + j, n)), y + j, n);
  });
}

template <typename As>
void backward_rows(void* gate, void* up, void* gradient, int64_t count) {
  using T = typename As::T;
  auto *g = static_cast<T*>(gate), *u = static_cast<T*>(up), *d = static_cast<T*>(gradient);
  for_columns(count, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
    const VF x = load_first<As>(g + j, n), y = load_first<As>(u + j, n), out_gradient = load_first<As>(d + j, n);
    const VF s = sigmoid(x), silu = hn::Mul(x, s);
    const VF slope = hn::MulAdd(silu, hn::Sub(hn::Set(F32(), 1.0f), s), s);
    store_first<As>(hn::Mul(silu, y), g + j, n);
    store_first<As>(hn::Mul(out_gradient, silu), u + j, n);
    store_first<As>(hn::Mul(hn::Mul(out_gradient, y), slope), d + j, n);
  });
}

void swiglu_forward(at::ScalarType type, const void* gate, const void* up, void* out, int64_t count) {
  with_element_type(type, [&](auto as) HWY_ATTR { forward_rows<decltype(as)>(gate, up, out, count); });
}
void swiglu_backward(at::ScalarType type, void* gate, void* up, void* gradient, int64_t count) {
  with_element_type(type, [&](auto as) HWY_ATTR { backward_rows<decltype(as)>(gate, up, gradient, count); });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(swiglu_forward);
HWY_EXPORT(swiglu_backward);

void check(const at::Tensor& gate, const at::Tensor& other) {
  if (!has_plain_rows(gate) || !other.is_contiguous() || other.device() != gate.device() || gate.sizes() != other.sizes() ||
      other.scalar_type() != gate.scalar_type())
    fail_protocol("[swiglu] expected contiguous tensors of one shape and of fp32, bf16 or fp16 on one device");
}

void forward_into(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out) {
  check(gate, up);
  if (const DeviceKernels* kernels = device_kernels_of(gate)) return kernels->swiglu(gate, up, out);
  if (!has_kernels(gate)) {
    const at::NoGradGuard no_grad;
    return for_parts(gate.numel(), 1, [&](int64_t first, int64_t count) {
      const auto part = [&](const at::Tensor& t) { return t.view(-1).narrow(0, first, count); };
      part(out).copy_(at::silu(part(gate).to(at::kFloat)).mul_(part(up)));
    });
  }
  at::parallel_for(0, gate.numel(), kGrainElements, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(swiglu_forward)
    (gate.scalar_type(), element_of(gate, begin), element_of(up, begin), element_of(out, begin), end - begin);
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
  if (const DeviceKernels* kernels = device_kernels_of(gate)) {
    kernels->swiglu_backward(gate, up, gradient);
  } else if (!has_kernels(gate)) {
    const at::NoGradGuard no_grad;
    for_parts(gate.numel(), 1, [&](int64_t first, int64_t count) {
      const auto part = [&](const at::Tensor& t) { return t.view(-1).narrow(0, first, count); };
      const at::Tensor x = part(gate).to(at::kFloat), y = part(up).to(at::kFloat), g = part(gradient).to(at::kFloat);
      at::Tensor silu = at::silu(x);
      // In fp32 these are the operands themselves, so all is worked out before any is written.
      const at::Tensor of_gate = at::silu_backward(at::mul(g, y), x), value = at::mul(silu, y);
      part(up).copy_(silu.mul_(g));
      part(gate).copy_(value);
      part(gradient).copy_(of_gate);
    });
  } else {
    at::parallel_for(0, gate.numel(), kGrainElements, [&](int64_t begin, int64_t end) {
      HWY_DYNAMIC_DISPATCH(swiglu_backward)
      (gate.scalar_type(), element_of(gate, begin), element_of(up, begin), element_of(gradient, begin), end - begin);
    });
  }
  gate.unsafeGetTensorImpl()->bump_version();
  up.unsafeGetTensorImpl()->bump_version();
}

}  // namespace zerostep
#endif
