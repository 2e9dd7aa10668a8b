#include "models/linear.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>
#include <torch/csrc/autograd/custom_function.h>

#include "models/parameter_gradient.h"

namespace zerostep {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor rows_of(const at::Tensor& x) { return x.dim() == 2 ? x : x.reshape({-1, x.size(-1)}); }

at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor rows = rows_of(x);
  at::Tensor y = bias.defined() ? at::addmm(bias.to(weight.scalar_type()), rows, weight) : at::mm(rows, weight);
  if (x.dim() == 2) return y;
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = weight.size(1);
  return y.view(sizes);
}

struct Linear : torch::autograd::Function<Linear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& optional_bias) {
    const at::Tensor bias = optional_bias.value_or(at::Tensor());
    // A frozen matrix needs no x: the backward to x reads the weight alone.
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["x_wanted"] = x.requires_grad();
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), weight, bias});
    return multiply(x, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor g = rows_of(gradients[0]);
    ParameterGradient weight(saved[1]), bias(saved[2]);
    if (weight.wanted()) weight.product(rows_of(saved[0]).t(), g);
    bias.row_sum(g);
    at::Tensor x_gradient;
    if (context->saved_data["x_wanted"].toBool()) x_gradient = at::mm(g, saved[1].t()).view(context->saved_data["shape"].toIntVector());
    return {x_gradient, weight.for_autograd(), bias.for_autograd()};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!at::GradMode::is_enabled()) return multiply(x, weight, bias);
  return Linear::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

}  // namespace zerostep
