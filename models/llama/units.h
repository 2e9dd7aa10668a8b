#pragma once
#include "models/cost_parts.h"
#include "models/llama/llama.h"

namespace zerostep::llama {

// The running form of unit `index`; parameters in the order that make_llama declares.
std::unique_ptr<Unit> make_unit(const LlamaOptions& options, int index, const std::vector<at::Tensor>& parameters);

using CostShape = zerostep::CostShape<LlamaOptions>;
ActivationCost unit_cost(const CostShape& shape, int index);
// Of the last unit where it hands on factors of the logits.
ActivationCost final_norm_cost(const CostShape& shape);

}  // namespace zerostep::llama
