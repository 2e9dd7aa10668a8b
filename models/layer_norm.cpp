#include "models/layer_norm.h"

#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>

#include "models/affine.h"

namespace zerostep {

Normalised normalise(const at::Tensor& x, const Norm& norm) {
  auto [y, mean, rstd] = at::native_layer_norm(rows_of(x), {x.size(-1)}, norm.gain, norm.offset, norm.epsilon);
  return {y, mean, rstd};
}

at::Tensor normalise_backward(const at::Tensor& gradient, const at::Tensor& x, const Normalised& normalised, const Norm& norm,
                              ParameterGradient& gain, ParameterGradient& offset, bool wanted) {
  auto [x_gradient, gain_gradient, offset_gradient] =
      at::native_layer_norm_backward(rows_of(gradient), rows_of(x), {x.size(-1)}, normalised.mean, normalised.rstd, norm.gain, norm.offset,
                                     {wanted, gain.wanted(), offset.wanted()});
  gain.value(gain_gradient);
  offset.value(offset_gradient);
  return wanted ? x_gradient.view(x.sizes()) : at::Tensor();
}

}  // namespace zerostep
