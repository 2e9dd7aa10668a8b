#include "models/affine.h"

#include <ATen/ops/add.h>

#include "models/product.h"

namespace zerostep {

at::Tensor affine(const at::Tensor& rows, const at::Tensor& matrix, const at::Tensor& bias) {
  if (!bias.defined()) return product(rows, matrix);
  at::Tensor y = bias.detach().to(matrix.scalar_type()).expand({rows.size(0), bias.size(0)}).clone(at::MemoryFormat::Contiguous);
  add_product_(y, rows, matrix);
  return y;
}

at::Tensor add_affine(const at::Tensor& residual, const at::Tensor& rows, const at::Tensor& matrix, const at::Tensor& bias,
                      const Dropout& dropout) {
  if (dropout.active()) {
    at::Tensor y = affine(rows, matrix, bias).view(residual.sizes());
    dropout.apply_(y);
    return y.add_(residual);
  }
  at::Tensor y = bias.defined() ? at::add(residual, bias.to(residual.scalar_type())) : residual.clone(at::MemoryFormat::Contiguous);
  add_product_(y.view({-1, y.size(-1)}), rows, matrix);
  return y;
}

at::Tensor dropped(const at::Tensor& values, const Dropout& dropout) {
  if (!dropout.active()) return values;
  at::Tensor copy = values.clone(at::MemoryFormat::Contiguous);
  dropout.apply_(copy);
  return copy;
}

at::Tensor rows_of_heads(const at::Tensor& heads) { return heads.transpose(1, 2).reshape({heads.size(0) * heads.size(2), -1}); }

}  // namespace zerostep
