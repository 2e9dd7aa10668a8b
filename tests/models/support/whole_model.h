#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/model.h"

namespace zerostep {

// A whole model in one process: parameters, units, and the loop over them.
struct WholeModel {
  std::unique_ptr<ModelDefinition> definition;
  std::vector<std::vector<at::Tensor>> parameters;  // per unit, its own
  std::vector<std::unique_ptr<Unit>> units;

  at::Tensor& parameter(const std::string& name);
  TensorList forward(const ForwardContext& context);
  std::vector<at::Tensor> all_parameters() const;
};

// fill(info, tensor): sets the fp32 values. Matrices are cast to compute_type, vectors stay fp32.
WholeModel make_model(std::unique_ptr<ModelDefinition> definition, const std::function<void(const ParameterInfo&, at::Tensor&)>& fill,
                      at::ScalarType compute_type = at::kFloat);
// Random values by torch's generator with this seed, of a size at which everything matters.
WholeModel make_random_model(std::unique_ptr<ModelDefinition> definition, uint64_t seed, at::ScalarType compute_type = at::kFloat);
// 0.3 sin(0.37 i), one more for norm gains, i being the global element index: the values of tests/models/reference.
void fill_by_formula(const ParameterInfo& info, at::Tensor& tensor);

// Random tokens and labels; sample ids 0, 1, ...
Batch make_batch(int64_t samples, int64_t length, int64_t vocabulary, uint64_t seed);

double relative_distance(const at::Tensor& a, const at::Tensor& b);

}  // namespace zerostep
