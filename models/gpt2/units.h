#pragma once
#include "models/cost_parts.h"
#include "models/gpt2/gpt2.h"

namespace zerostep::gpt2 {

// The running form of unit `index`; parameters in the order that make_gpt2 declares.
std::unique_ptr<Unit> make_unit(const Gpt2Options& options, int index, const std::vector<at::Tensor>& parameters);

using CostShape = zerostep::CostShape<Gpt2Options>;
ActivationCost unit_cost(const CostShape& shape, int index);
// Of the last unit where it hands on factors of the logits.
ActivationCost final_norm_cost(const CostShape& shape);

}  // namespace zerostep::gpt2
