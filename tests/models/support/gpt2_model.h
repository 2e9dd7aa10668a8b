#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "models/gpt2/gpt2.h"
#include "models/objective.h"

namespace zerostep {

// A whole GPT-2 in one process: parameters, units, and the loop over them.
struct Gpt2Model {
  std::unique_ptr<ModelDefinition> definition;
  std::vector<std::vector<at::Tensor>> parameters;  // per unit, its own
  std::vector<std::unique_ptr<Unit>> units;

  at::Tensor& parameter(const std::string& name);
  TensorList forward(const ForwardContext& context);
  std::vector<at::Tensor> all_parameters() const;
};

// fill(info, tensor): sets the fp32 values. Matrices are cast to compute_type, vectors stay fp32.
Gpt2Model make_model(const Gpt2Options& options, const std::function<void(const ParameterInfo&, at::Tensor&)>& fill,
                     at::ScalarType compute_type = at::kFloat);
// Random values by torch's generator with this seed, of a size at which everything matters.
Gpt2Model make_random_model(const Gpt2Options& options, uint64_t seed, at::ScalarType compute_type = at::kFloat);

// Random tokens and labels; sample ids 0, 1, ...
Batch make_batch(int64_t samples, int64_t length, int64_t vocabulary, uint64_t seed);

// The same mathematics in plain LibTorch with eager attention: logits of `model`'s parameters (dropout off).
at::Tensor plain_logits(Gpt2Model& model, const Gpt2Options& options, const Batch& batch);

double relative_distance(const at::Tensor& a, const at::Tensor& b);

}  // namespace zerostep
