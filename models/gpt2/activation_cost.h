#pragma once
#include "models/cost_parts.h"
#include "models/gpt2/gpt2.h"

namespace zerostep::gpt2 {

using CostShape = zerostep::CostShape<Gpt2Options>;
ActivationCost embedding_cost(const CostShape& shape);
ActivationCost block_cost(const CostShape& shape);
ActivationCost head_cost(const CostShape& shape);

}  // namespace zerostep::gpt2
