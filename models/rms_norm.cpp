#include "models/rms_norm.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/simd_targets.h"
#include "models/device_kernels.h"
#include "models/gradient_kernels.h"
#include "models/kernel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/rms_norm.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "models/row_lanes-inl.h"

#ifndef ZEROSTEP_MODELS_RMS_NORM_
#define ZEROSTEP_MODELS_RMS_NORM_
namespace zerostep {

// Consecutive rows with one gain.
struct RmsRows {
  const void* rows;
  const float* gain;
  void* out;  // normalised rows; in the backward, gradients that become the rows'
  int64_t count, width;
  float epsilon;
  float* gain_gradient;  // of these rows alone; nullptr: not wanted
};

}  // namespace zerostep
#endif

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

template <typename As>
HWY_INLINE float reciprocal_root(const typename As::T* x, int64_t width, float epsilon) {
  VF squares = hn::Zero(F32());
  for_columns(width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
    const VF v = load_first<As>(x + j, n);
    squares = hn::MulAdd(v, v, squares);
  });
  return 1.0f / std::sqrt(total(squares) / static_cast<float>(width) + epsilon);
}

template <typename As>
void rms_forward_rows(const RmsRows& a) {
  using T = typename As::T;
  for (int64_t i = 0; i < a.count; ++i) {
    const T* x = static_cast<const T*>(a.rows) + i * a.width;
    T* y = static_cast<T*>(a.out) + i * a.width;
    const VF scale = hn::Set(F32(), reciprocal_root<As>(x, a.width, a.epsilon));
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      store_first<As>(hn::Mul(hn::Mul(load_first<As>(x + j, n), scale), load_first<AsFloat>(a.gain + j, n)), y + j, n);
    });
  }
}

// With r = 1 / sqrt(mean(x^2) + epsilon) and h = gain g: gradient r (h - x r^2 mean(h x)), of the gain the sum of g x r.
template <typename As>
void rms_backward_rows(const RmsRows& a) {
  using T = typename As::T;
  const F32 d;
  if (a.gain_gradient != nullptr) std::fill_n(a.gain_gradient, a.width, 0.0f);
  for (int64_t i = 0; i < a.count; ++i) {
    const T* x = static_cast<const T*>(a.rows) + i * a.width;
    T* g = static_cast<T*>(a.out) + i * a.width;
    // 0 is what squares beyond fp32 leave: such a row has no gradient, and says so.
    const float root = reciprocal_root<As>(x, a.width, a.epsilon), r = root == 0 ? std::numeric_limits<float>::quiet_NaN() : root;
    const VF scale = hn::Set(d, r);
    VF products = hn::Zero(d);
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      const VF weighted = hn::Mul(load_first<As>(g + j, n), load_first<As>(x + j, n));
      products = hn::MulAdd(weighted, load_first<AsFloat>(a.gain + j, n), products);
      if (a.gain_gradient == nullptr) return;
      store_first<AsFloat>(hn::MulAdd(weighted, scale, load_first<AsFloat>(a.gain_gradient + j, n)), a.gain_gradient + j, n);
    });
    const VF along = hn::Set(d, total(products) / static_cast<float>(a.width) * r * r);
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      const VF h = hn::Mul(load_first<As>(g + j, n), load_first<AsFloat>(a.gain + j, n));
      store_first<As>(hn::Mul(hn::NegMulAdd(load_first<As>(x + j, n), along, h), scale), g + j, n);
    });
  }
}

void rms_forward(at::ScalarType type, const RmsRows& a) {
  with_element_type(type, [&](auto as) HWY_ATTR { rms_forward_rows<decltype(as)>(a); });
}
void rms_backward(at::ScalarType type, const RmsRows& a) {
  with_element_type(type, [&](auto as) HWY_ATTR { rms_backward_rows<decltype(as)>(a); });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(rms_forward);
HWY_EXPORT(rms_backward);

constexpr int64_t kBlockRows = 64;  // whose gain gradients are summed first

int64_t num_blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

void check_rows(const at::Tensor& rows) {
  if (!has_plain_rows(rows) || rows.dim() != 2) fail_protocol("[rms norm] expected contiguous rows of fp32, bf16 or fp16");
}

// 1 / sqrt(mean(x^2) + epsilon) of each row x of fp32, in a last dimension of its own.
at::Tensor reciprocal_roots(const at::Tensor& x, double epsilon) {
  at::Tensor norm = at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true);
  return norm.square_().div_(x.size(-1)).add_(epsilon).rsqrt_();
}

// The kernels' mathematics in LibTorch's operations. Rows and out [branches, n, width], gains fp32 [branches, width].
void rms_forward_by_operations(const at::Tensor& rows, const at::Tensor& gains, double epsilon, const at::Tensor& out) {
  for_parts(rows.size(1), rows.size(0) * rows.size(2), [&](int64_t first, int64_t count) {
    const at::Tensor x = rows.narrow(1, first, count).to(at::kFloat);
    out.narrow(1, first, count).copy_(at::mul(x, reciprocal_roots(x, epsilon)).mul_(gains.unsqueeze(1)));
  });
}

void rms_backward_by_operations(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& gain, double epsilon,
                                at::Tensor gain_gradient) {
  if (gain_gradient.defined()) gain_gradient.zero_();
  for_parts(rows.size(0), rows.size(1), [&](int64_t first, int64_t count) {
    const at::Tensor x = rows.narrow(0, first, count).to(at::kFloat), g = gradient.narrow(0, first, count);
    at::Tensor r = reciprocal_roots(x, epsilon);
    r.masked_fill_(r.eq(0), std::numeric_limits<float>::quiet_NaN());
    at::Tensor products = at::mul(x, g);
    if (gain_gradient.defined()) gain_gradient.add_(at::mul(products, r).sum(0));
    const at::Tensor along = products.mul_(gain).sum(-1, true).div_(x.size(1)).mul_(r).mul_(r);
    at::Tensor result = at::mul(gain, g);
    at::mul_out(products, x, along);
    g.copy_(result.sub_(products).mul_(r));
  });
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& rows, const at::Tensor& gain, double epsilon) {
  check_rows(rows);
  const int64_t n = rows.size(0), width = rows.size(1), branches = gain.dim() == 2 ? gain.size(0) : 1;
  if (gain.size(-1) != width || n % branches != 0)
    fail_protocol("[rms norm] gains of {} branches and {} columns do not fit {} rows of {}", branches, gain.size(-1), n, width);
  const auto added = static_cast<float>(epsilon);
  const at::Tensor gains = gain.detach().to(at::kFloat).contiguous();
  at::Tensor out = at::empty(rows.sizes(), rows.options().requires_grad(false));
  if (const DeviceKernels* kernels = device_kernels_of(rows)) {
    kernels->rms_norm(rows, gains, epsilon, out);
    return out;
  }
  if (!has_kernels(rows)) {
    const at::NoGradGuard no_grad;
    const auto by_branch = [&](const at::Tensor& t) { return t.view({branches, n / branches, width}); };
    rms_forward_by_operations(by_branch(rows), gains.view({branches, width}), epsilon, by_branch(out));
    return out;
  }
  at::parallel_for(0, n, std::max<int64_t>(1, kGrainElements / width), [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t each = n / branches, branch = begin / each, count = std::min(end, (branch + 1) * each) - begin;
      const float* own = gains.const_data_ptr<float>() + branch * width;
      const RmsRows a{element_of(rows, begin * width), own, element_of(out, begin * width), count, width, added, nullptr};
      HWY_DYNAMIC_DISPATCH(rms_forward)(rows.scalar_type(), a);
      begin += count;
    }
  });
  return out;
}

int64_t rms_norm_backward_bytes(int64_t num_rows, int64_t width) { return 4 * width * num_blocks(num_rows); }

void rms_norm_backward_(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& gain, double epsilon,
                        const at::Tensor& gain_gradient) {
  check_rows(rows);
  check_rows(gradient);
  if (gradient.sizes() != rows.sizes() || gradient.scalar_type() != rows.scalar_type() || gain.numel() != rows.size(1))
    fail_protocol("[rms norm] a gradient of {} elements and a gain of {} do not fit {} rows of {}", gradient.numel(), gain.numel(),
                  rows.size(0), rows.size(1));
  const int64_t n = rows.size(0), width = rows.size(1), blocks = num_blocks(n);
  const auto added = static_cast<float>(epsilon);
  const at::Tensor gains = gain.detach().to(at::kFloat).contiguous();
  if (const DeviceKernels* kernels = device_kernels_of(rows)) {
    const at::NoGradGuard no_grad;
    return kernels->rms_norm_backward(gradient, rows, gains, epsilon, gain_gradient);
  }
  if (!has_kernels(rows)) {
    const at::NoGradGuard no_grad;
    return rms_backward_by_operations(gradient, rows, gains, epsilon, gain_gradient);
  }
  at::Tensor partial;
  if (gain_gradient.defined()) partial = at::empty({blocks, width}, gains.options());
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t row = block * kBlockRows, count = std::min(kBlockRows, n - row);
      float* sums = partial.defined() ? partial.data_ptr<float>() + block * width : nullptr;
      const RmsRows a{
          element_of(rows, row * width), gains.const_data_ptr<float>(), element_of(gradient, row * width), count, width, added, sums};
      HWY_DYNAMIC_DISPATCH(rms_backward)(rows.scalar_type(), a);
    }
  });
  if (partial.defined()) sum_rows(partial, gain_gradient, false);
}

}  // namespace zerostep
#endif
