#pragma once
#include "models/cost_parts.h"
#include "models/llama/llama.h"

namespace zerostep::llama {

// The running form of unit `index`; parameters in the order that make_llama declares.
std::unique_ptr<Unit> make_unit(const LlamaOptions& options, int index, const std::vector<at::Tensor>& parameters);

using CostShape = zerostep::CostShape<LlamaOptions>;
ActivationCost unit_cost(const CostShape& shape, int index);

}  // namespace zerostep::llama
