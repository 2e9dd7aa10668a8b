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

// The gradient of x, undefined unless wanted; those of gain and offset go where they belong. The rows of `normalised` are not read. Of
// 16-bit rows with gains of fp32 the sums are fp32, on the CPU over blocks of rows in a fixed order, whatever the number of threads.
at::Tensor normalise_backward(const at::Tensor& gradient, const at::Tensor& x, const Normalised& normalised, const Norm& norm,
                              ParameterGradient& gain, ParameterGradient& offset, bool wanted);

// Bytes that normalise_backward() takes for a while on the CPU beside the gradient of x.
int64_t normalise_backward_bytes(bool is_16bit, int64_t num_rows, int64_t width);

}  // namespace zerostep
