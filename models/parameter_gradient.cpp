#include "models/parameter_gradient.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include "models/gradient_kernels.h"

namespace zerostep {

namespace {
// Fresh gradients carry it: a tensor may refer to an object of those who own its memory.
const c10::intrusive_ptr<c10::BackendMeta>& fresh_mark() {
  static const auto mark = c10::make_intrusive<c10::BackendMeta>();
  return mark;
}

bool is_fresh(const at::Tensor& gradient) { return gradient.unsafeGetTensorImpl()->get_backend_meta() == fresh_mark().get(); }

}  // namespace

void mark_gradients(const std::vector<at::Tensor>& parameters, bool fresh) {
  for (const at::Tensor& parameter : parameters)
    if (const at::Tensor& gradient = parameter.grad(); gradient.defined() && fresh != is_fresh(gradient))
      gradient.unsafeGetTensorImpl()->set_backend_meta(fresh ? fresh_mark() : nullptr);
}

ParameterGradient::ParameterGradient(const at::Tensor& parameter, bool add_always) {
  if (!parameter.defined() || !parameter.requires_grad()) return;
  wanted_ = true;
  in_place_ = parameter.grad().defined();
  if (in_place_) {
    target_ = parameter.grad();
    overwrite_ = is_fresh(target_) && !add_always;
  } else {
    target_ = at::empty(parameter.sizes(), parameter.options().requires_grad(false));
  }
}

at::Tensor ParameterGradient::part(int64_t first_column, int64_t num_columns) const {
  const int64_t dim = target_.dim() - 1;
  if (first_column == 0 && num_columns == target_.size(dim)) return target_;
  return target_.narrow(dim, first_column, num_columns);
}

void ParameterGradient::product(const at::Tensor& left, const at::Tensor& right, int64_t first_column) {
  if (wanted_) put_product(part(first_column, right.size(1)), left, right);
}

void ParameterGradient::product_of_rows(const at::Tensor& left, const at::Tensor& right, int64_t first_row) {
  if (wanted_) put_product(target_.narrow(0, first_row, left.size(0)), left, right);
}

void ParameterGradient::put_product(at::Tensor to, const at::Tensor& left, const at::Tensor& right) const {
  if (overwrite_ && to.scalar_type() == left.scalar_type()) {
    at::mm_out(to, left, right);
  } else if (to.scalar_type() == left.scalar_type()) {
    to.add_(at::mm(left, right));
  } else {
    convert_into(at::mm(left, right), to, !overwrite_);
  }
}

void ParameterGradient::row_sum(const at::Tensor& rows, int64_t first_column) {
  if (!wanted_) return;
  at::Tensor to = part(first_column, rows.size(1));
  if (to.scalar_type() != rows.scalar_type()) {
    sum_rows(rows, to, !overwrite_);
  } else if (overwrite_) {
    at::sum_out(to, rows, {0});
  } else {
    to.add_(rows.sum({0}));
  }
}

void ParameterGradient::value(const at::Tensor& gradient) {
  if (!wanted_) return;
  if (overwrite_) {
    target_.copy_(gradient);
  } else {
    target_.add_(gradient);
  }
}

void ParameterGradient::leading_rows(const at::Tensor& gradient) {
  if (!wanted_) return;
  const int64_t rows = gradient.size(1);
  sum_rows(gradient, target_.narrow(0, 0, rows), !overwrite_);
  if (overwrite_ && rows < target_.size(0)) target_.narrow(0, rows, target_.size(0) - rows).zero_();
}

void ParameterGradient::scattered_rows(const at::Tensor& indices, const at::Tensor& rows) {
  if (!wanted_) return;
  if (overwrite_) target_.zero_();
  add_rows(target_, indices, rows);
}

}  // namespace zerostep
