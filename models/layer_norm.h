#pragma once
#include <ATen/core/Tensor.h>

#include "models/parameter_gradient.h"

namespace zerostep {

struct Norm {
  at::Tensor gain, offset;  // [width]
  double epsilon = 1e-5;
};

// LayerNorm of the rows of x [..., width], without a graph.
struct Normalised {
  at::Tensor rows, mean, rstd;  // [n, width], [n, 1], [n, 1]
};
Normalised normalise(const at::Tensor& x, const Norm& norm);

// The gradient of x, undefined unless wanted; those of gain and offset go where they belong. The rows of `normalised` are not read.
at::Tensor normalise_backward(const at::Tensor& gradient, const at::Tensor& x, const Normalised& normalised, const Norm& norm,
                              ParameterGradient& gain, ParameterGradient& offset, bool wanted);

}  // namespace zerostep
