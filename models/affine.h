#pragma once
#include <ATen/core/Tensor.h>

#include "models/dropout.h"

namespace zerostep {

// What the functions of the families share, without a graph. Matrices are [in, out], or transposed views of [out, in].

inline at::Tensor rows_of(const at::Tensor& x) { return x.reshape({-1, x.size(-1)}); }

// rows W + b, of the matrix's type; b may be undefined.
at::Tensor affine(const at::Tensor& rows, const at::Tensor& matrix, const at::Tensor& bias);
// residual + dropout(rows W + b); without dropout in one pass and one product that adds.
at::Tensor add_affine(const at::Tensor& residual, const at::Tensor& rows, const at::Tensor& matrix, const at::Tensor& bias,
                      const Dropout& dropout = {});
// A copy through dropout; the tensor itself where it is not active.
at::Tensor dropped(const at::Tensor& values, const Dropout& dropout);
// [B, heads, T, width] as rows [B T, heads * width].
at::Tensor rows_of_heads(const at::Tensor& heads);

}  // namespace zerostep
