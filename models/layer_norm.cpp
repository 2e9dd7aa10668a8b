#include "models/layer_norm.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>

#include <algorithm>
#include <limits>

#include "base/simd_targets.h"
#include "models/affine.h"
#include "models/device_kernels.h"
#include "models/gradient_kernels.h"
#include "models/kernel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/layer_norm.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "models/row_lanes-inl.h"

#ifndef ZEROSTEP_MODELS_LAYER_NORM_
#define ZEROSTEP_MODELS_LAYER_NORM_
namespace zerostep {

// Consecutive rows, the gradients of what their norm gives and the statistics that it took.
struct LayerNormRows {
  const void *gradient, *rows;
  const float *mean, *rstd, *gain;
  int64_t count, width;
  void* out;    // the rows' gradient; nullptr: not wanted
  float* sums;  // the gradients of gain and offset [2, width], of these rows alone; nullptr: not wanted
};

}  // namespace zerostep
#endif

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// With r = rstd, n = (x - mean) r and h = gain g: gradient r (h - mean(h) - n mean(h n)), of the gain the sum of g n, of the offset that
// of g.
template <typename As>
void layer_norm_backward_rows(const LayerNormRows& a) {
  using T = typename As::T;
  const F32 d;
  if (a.sums != nullptr) std::fill_n(a.sums, 2 * a.width, 0.0f);
  for (int64_t i = 0; i < a.count; ++i) {
    const T *g = static_cast<const T*>(a.gradient) + i * a.width, *x = static_cast<const T*>(a.rows) + i * a.width;
    // 0 is what a variance beyond fp32 leaves: such a row has no gradient, and says so.
    const float root = a.rstd[i] == 0 ? std::numeric_limits<float>::quiet_NaN() : a.rstd[i];
    const VF mean = hn::Set(d, a.mean[i]), rstd = hn::Set(d, root);
    VF total_h = hn::Zero(d), total_hn = hn::Zero(d);
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      const VF gradient = load_first<As>(g + j, n), product = hn::Mul(hn::Mul(hn::Sub(load_first<As>(x + j, n), mean), rstd), gradient);
      const VF gain = load_first<AsFloat>(a.gain + j, n);
      total_h = hn::MulAdd(gradient, gain, total_h);
      total_hn = hn::MulAdd(product, gain, total_hn);
      if (a.sums == nullptr) return;
      float *of_gain = a.sums + j, *of_offset = a.sums + a.width + j;
      store_first<AsFloat>(hn::Add(load_first<AsFloat>(of_gain, n), product), of_gain, n);
      store_first<AsFloat>(hn::Add(load_first<AsFloat>(of_offset, n), gradient), of_offset, n);
    });
    if (a.out == nullptr) continue;
    T* out = static_cast<T*>(a.out) + i * a.width;
    const auto width = static_cast<float>(a.width);
    const VF shift = hn::Set(d, total(total_h) / width), along = hn::Set(d, total(total_hn) / width * root);
    for_columns(a.width, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      const VF h = hn::MulSub(load_first<As>(g + j, n), load_first<AsFloat>(a.gain + j, n), shift);
      store_first<As>(hn::Mul(hn::NegMulAdd(hn::Sub(load_first<As>(x + j, n), mean), along, h), rstd), out + j, n);
    });
  }
}

void layer_norm_backward(at::ScalarType type, const LayerNormRows& a) {
  with_element_type(type, [&](auto as) HWY_ATTR { layer_norm_backward_rows<decltype(as)>(a); });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(layer_norm_backward);

constexpr int64_t kBlockRows = 64;  // whose gradients of gain and offset are summed first

int64_t num_blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }

// 16-bit rows with gains of fp32. LibTorch's operation for them would sum the gradients of gain and offset in 16 bit.
bool has_kernel(const at::Tensor& rows, const Norm& norm) {
  return has_lanes(rows) && rows.scalar_type() != at::kFloat && norm.gain.scalar_type() == at::kFloat;
}

// LibTorch's kernels for other devices take gains of the rows' type alone: there 16-bit rows pass through fp32.
bool passes_through_fp32(const at::Tensor& rows, const Norm& norm) {
  return !has_kernels(rows) && rows.scalar_type() != norm.gain.scalar_type();
}

// A device's own, which take gains of fp32.
const DeviceKernels* device_kernels_for(const at::Tensor& rows, const Norm& norm) {
  return norm.gain.scalar_type() == at::kFloat ? device_kernels_of(rows) : nullptr;
}

Normalised empty_normalised(const at::Tensor& rows) {
  const auto floats = rows.options().dtype(at::kFloat).requires_grad(false);
  const int64_t n = rows.size(0);
  return {at::empty({n, rows.size(1)}, rows.options().requires_grad(false)), at::empty({n, 1}, floats), at::empty({n, 1}, floats)};
}

Normalised normalise_in_fp32(const at::Tensor& rows, const Norm& norm) {
  const at::NoGradGuard no_grad;
  const int64_t n = rows.size(0), width = rows.size(1);
  const Normalised out = empty_normalised(rows);
  for_parts(n, width, [&](int64_t first, int64_t count) {
    const auto [y, mean, rstd] =
        at::native_layer_norm(rows.narrow(0, first, count).to(at::kFloat), {width}, norm.gain, norm.offset, norm.epsilon);
    out.rows.narrow(0, first, count).copy_(y);
    out.mean.narrow(0, first, count).copy_(mean);
    out.rstd.narrow(0, first, count).copy_(rstd);
  });
  return out;
}

// As native_layer_norm_backward's: of rows, gain and offset, those that are wanted.
std::array<at::Tensor, 3> backward_in_fp32(const at::Tensor& gradient, const at::Tensor& rows, const Normalised& normalised,
                                           const Norm& norm, std::array<bool, 3> wanted) {
  std::array<at::Tensor, 3> out;
  if (wanted[0]) out[0] = at::empty(rows.sizes(), rows.options().requires_grad(false));
  const at::Tensor roots = normalised.rstd.masked_fill(normalised.rstd.eq(0), std::numeric_limits<float>::quiet_NaN());
  for_parts(rows.size(0), rows.size(1), [&](int64_t first, int64_t count) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, first, count); };
    const auto [of_rows, of_gain, of_offset] =
        at::native_layer_norm_backward(part(gradient).to(at::kFloat), part(rows).to(at::kFloat), {rows.size(1)}, part(normalised.mean),
                                       part(roots), norm.gain, norm.offset, wanted);
    if (wanted[0]) part(out[0]).copy_(of_rows);
    if (wanted[1]) out[1] = first == 0 ? of_gain : out[1].add_(of_gain);
    if (wanted[2]) out[2] = first == 0 ? of_offset : out[2].add_(of_offset);
  });
  return out;
}

// The same as a kernel.
std::array<at::Tensor, 3> backward_of_kernel(const at::Tensor& gradient, const at::Tensor& rows, const Normalised& normalised,
                                             const at::Tensor& gain, std::array<bool, 3> wanted) {
  const int64_t n = rows.size(0), width = rows.size(1), blocks = num_blocks(n);
  at::Tensor out, partial;
  if (wanted[0]) out = at::empty(rows.sizes(), rows.options().requires_grad(false));
  if (wanted[1] || wanted[2]) partial = at::empty({blocks, 2 * width}, normalised.mean.options());
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t row = block * kBlockRows, count = std::min(kBlockRows, n - row);
      const LayerNormRows a{element_of(gradient, row * width),
                            element_of(rows, row * width),
                            normalised.mean.const_data_ptr<float>() + row,
                            normalised.rstd.const_data_ptr<float>() + row,
                            gain.const_data_ptr<float>(),
                            count,
                            width,
                            out.defined() ? element_of(out, row * width) : nullptr,
                            partial.defined() ? partial.data_ptr<float>() + block * 2 * width : nullptr};
      HWY_DYNAMIC_DISPATCH(layer_norm_backward)(rows.scalar_type(), a);
    }
  });
  if (!partial.defined()) return {out, {}, {}};
  const at::Tensor sums = at::empty({2, width}, partial.options());
  sum_rows(partial, sums, false);
  return {out, sums[0], sums[1]};
}

}  // namespace

int64_t normalise_backward_bytes(bool is_16bit, int64_t num_rows, int64_t width) {
  return 4 * 2 * width * (1 + (is_16bit ? num_blocks(num_rows) : 0));
}

Normalised normalise(const at::Tensor& x, const Norm& norm) {
  const at::Tensor rows = rows_of(x);
  if (const DeviceKernels* kernels = device_kernels_for(rows, norm)) {
    const at::NoGradGuard no_grad;
    const at::Tensor given = rows.contiguous();
    const Normalised out = empty_normalised(given);
    kernels->layer_norm(given, norm.gain.contiguous(), norm.offset.contiguous(), norm.epsilon, out.rows, out.mean, out.rstd);
    return out;
  }
  if (passes_through_fp32(rows, norm)) return normalise_in_fp32(rows, norm);
  auto [y, mean, rstd] = at::native_layer_norm(rows, {x.size(-1)}, norm.gain, norm.offset, norm.epsilon);
  return {y, mean, rstd};
}

at::Tensor normalise_backward(const at::Tensor& gradient, const at::Tensor& x, const Normalised& normalised, const Norm& norm,
                              ParameterGradient& gain, ParameterGradient& offset, bool wanted) {
  const at::Tensor g = rows_of(gradient).contiguous(), rows = rows_of(x).contiguous();
  const std::array<bool, 3> all{wanted, gain.wanted(), offset.wanted()};
  const auto [x_gradient, gain_gradient, offset_gradient] = [&]() -> std::array<at::Tensor, 3> {
    if (const DeviceKernels* kernels = device_kernels_for(rows, norm)) {
      const at::NoGradGuard no_grad;
      const at::Tensor out = wanted ? at::empty_like(rows) : at::Tensor();
      const at::Tensor sums = all[1] || all[2] ? at::empty({2, rows.size(1)}, normalised.mean.options()) : at::Tensor();
      kernels->layer_norm_backward(g, rows, normalised.mean, normalised.rstd, norm.gain.contiguous(), out, sums);
      return {out, sums.defined() ? sums[0] : at::Tensor(), sums.defined() ? sums[1] : at::Tensor()};
    }
    if (has_kernel(rows, norm)) return backward_of_kernel(g, rows, normalised, norm.gain.contiguous(), all);
    if (passes_through_fp32(rows, norm)) return backward_in_fp32(g, rows, normalised, norm, all);
    auto [of_rows, of_gain, of_offset] =
        at::native_layer_norm_backward(g, rows, {x.size(-1)}, normalised.mean, normalised.rstd, norm.gain, norm.offset, all);
    return {of_rows, of_gain, of_offset};
  }();
  gain.value(gain_gradient);
  offset.value(offset_gradient);
  return wanted ? x_gradient.view(x.sizes()) : at::Tensor();
}

}  // namespace zerostep
#endif
