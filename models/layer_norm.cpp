#include "models/layer_norm.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>

#include "models/affine.h"
#include "models/kernel_rows.h"

namespace zerostep {

namespace {

// LibTorch's kernels for other devices take gains of the rows' type alone: there 16-bit rows pass through fp32.
bool passes_through_fp32(const at::Tensor& rows, const Norm& norm) {
  return !has_kernels(rows) && rows.scalar_type() != norm.gain.scalar_type();
}

Normalised normalise_in_fp32(const at::Tensor& rows, const Norm& norm) {
  const at::NoGradGuard no_grad;
  const int64_t n = rows.size(0), width = rows.size(1);
  const auto floats = rows.options().dtype(at::kFloat).requires_grad(false);
  const Normalised out{at::empty({n, width}, rows.options().requires_grad(false)), at::empty({n, 1}, floats), at::empty({n, 1}, floats)};
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
  for_parts(rows.size(0), rows.size(1), [&](int64_t first, int64_t count) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, first, count); };
    const auto [of_rows, of_gain, of_offset] =
        at::native_layer_norm_backward(part(gradient).to(at::kFloat), part(rows).to(at::kFloat), {rows.size(1)}, part(normalised.mean),
                                       part(normalised.rstd), norm.gain, norm.offset, wanted);
    if (wanted[0]) part(out[0]).copy_(of_rows);
    if (wanted[1]) out[1] = first == 0 ? of_gain : out[1].add_(of_gain);
    if (wanted[2]) out[2] = first == 0 ? of_offset : out[2].add_(of_offset);
  });
  return out;
}

}  // namespace

Normalised normalise(const at::Tensor& x, const Norm& norm) {
  const at::Tensor rows = rows_of(x);
  if (passes_through_fp32(rows, norm)) return normalise_in_fp32(rows, norm);
  auto [y, mean, rstd] = at::native_layer_norm(rows, {x.size(-1)}, norm.gain, norm.offset, norm.epsilon);
  return {y, mean, rstd};
}

at::Tensor normalise_backward(const at::Tensor& gradient, const at::Tensor& x, const Normalised& normalised, const Norm& norm,
                              ParameterGradient& gain, ParameterGradient& offset, bool wanted) {
  const at::Tensor g = rows_of(gradient), rows = rows_of(x);
  const std::array<bool, 3> all{wanted, gain.wanted(), offset.wanted()};
  const auto [x_gradient, gain_gradient, offset_gradient] = [&]() -> std::array<at::Tensor, 3> {
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
