#pragma once
#include <torch/csrc/autograd/custom_function.h>

#include <functional>
#include <initializer_list>
#include <utility>
#include <vector>

#include "models/parameter_gradient.h"

namespace zerostep {

// What the models' autograd nodes share.

inline bool any_requires_grad(std::initializer_list<at::Tensor> tensors) {
  for (const at::Tensor& t : tensors)
    if (t.defined() && t.requires_grad()) return true;
  return false;
}
// Does a function of these tensors enter a graph?
template <typename... Tensors>
bool records(const Tensors&... tensors) {
  return at::GradMode::is_enabled() && any_requires_grad({tensors...});
}

// What a backward returns: gradients of inputs, those of parameters, and nothing for the `constants` behind them.
inline torch::autograd::variable_list gradients_of(std::vector<at::Tensor> inputs,
                                                   std::initializer_list<std::reference_wrapper<const ParameterGradient>> parameters,
                                                   size_t constants) {
  for (const ParameterGradient& parameter : parameters) inputs.push_back(parameter.autograd_value());
  inputs.resize(inputs.size() + constants);
  return inputs;
}

// What a node keeps beside tensors.
template <typename T>
struct Kept : torch::CustomClassHolder {
  explicit Kept(T v) : value(std::move(v)) {}
  T value;
};
template <typename T>
void keep(torch::autograd::AutogradContext* context, T value) {
  context->saved_data["kept"] = c10::IValue::make_capsule(c10::make_intrusive<Kept<T>>(std::move(value)));
}
template <typename T>
T kept(torch::autograd::AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<Kept<T>>(context->saved_data["kept"].toCapsule())->value;
}

}  // namespace zerostep
