#pragma once
#include "models/bert/bert.h"
#include "models/cost_parts.h"

namespace zerostep::bert {

// The running form of unit `index`; parameters in the order that make_bert declares.
std::unique_ptr<Unit> make_unit(const BertOptions& options, int index, const std::vector<at::Tensor>& parameters);

using CostShape = zerostep::CostShape<BertOptions>;
ActivationCost unit_cost(const CostShape& shape, int index);

}  // namespace zerostep::bert
