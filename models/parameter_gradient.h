#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace zerostep {

// Says what the pre-assigned gradients of parameters hold: fresh (garbage, to be overwritten by the next backward) or the sums of earlier
// micro-batches (to be added to, as those are of which nothing was said). The gradient's tensor carries it, so that a backward finds it in
// whatever thread autograd runs it. Parameters without a pre-assigned gradient are left out.
void mark_gradients(const std::vector<at::Tensor>& parameters, bool fresh);

// Where a backward puts the gradient of one parameter: straight into a pre-assigned parameter.grad() (overwritten or added to, as
// mark_gradients() said), else into a tensor of the parameter's type that is handed to autograd. A frozen or undefined parameter wants
// none.
class ParameterGradient {
 public:
  // add_always: adds to a pre-assigned gradient even when gradients are fresh (another use has written it before).
  explicit ParameterGradient(const at::Tensor& parameter, bool add_always = false);
  bool wanted() const { return wanted_; }

  // Each writes the gradient, or the part of it from column `first_column` on; a part may be written once.
  void product(const at::Tensor& left, const at::Tensor& right, int64_t first_column = 0);  // left @ right
  // The same for the part of as many rows as `left` has, from row `first_row` on.
  void product_of_rows(const at::Tensor& left, const at::Tensor& right, int64_t first_row);
  void row_sum(const at::Tensor& rows, int64_t first_column = 0);  // [n, out] -> [out]
  void value(const at::Tensor& gradient);
  // [B, n, width] summed over B is the gradient of the first n rows; the others are zero.
  void leading_rows(const at::Tensor& gradient);
  // Rows of an [n, width] gradient added to the rows `indices` names; rows that no index names are zero.
  void scattered_rows(const at::Tensor& indices, const at::Tensor& rows);

  // What the backward returns to autograd: undefined when nothing is wanted or all is written in place.
  at::Tensor autograd_value() const { return in_place_ ? at::Tensor() : target_; }

 private:
  at::Tensor part(int64_t first_column, int64_t num_columns) const;
  void put_product(at::Tensor to, const at::Tensor& left, const at::Tensor& right) const;
  at::Tensor target_;
  bool wanted_ = false, in_place_ = false, overwrite_ = true;
};

}  // namespace zerostep
