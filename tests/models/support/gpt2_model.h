#pragma once
#include "models/gpt2/gpt2.h"
#include "models/objective.h"
#include "tests/models/support/whole_model.h"

namespace zerostep {

using Gpt2Model = WholeModel;
Gpt2Model make_model(const Gpt2Options& options, const std::function<void(const ParameterInfo&, at::Tensor&)>& fill,
                     at::ScalarType compute_type = at::kFloat);
Gpt2Model make_random_model(const Gpt2Options& options, uint64_t seed, at::ScalarType compute_type = at::kFloat);

// The same mathematics in plain LibTorch with eager attention: logits of `model`'s parameters (dropout off).
at::Tensor plain_logits(Gpt2Model& model, const Gpt2Options& options, const Batch& batch);

}  // namespace zerostep
