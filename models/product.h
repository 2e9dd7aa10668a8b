#pragma once
#include <ATen/core/Tensor.h>

namespace zerostep {

// rows [n, in] times matrix [in, out], without a graph. Where each of LibTorch's threads gets columns enough, it makes a product of its
// own from them: such products share nothing while they run. Otherwise LibTorch divides the work.
at::Tensor product(const at::Tensor& rows, const at::Tensor& matrix);
// y [n, out] += rows times matrix.
void add_product_(const at::Tensor& y, const at::Tensor& rows, const at::Tensor& matrix);

}  // namespace zerostep
