#pragma once
#include "models/cost_parts.h"
#include "models/llama/llama.h"

namespace zerostep::llama {

using CostShape = zerostep::CostShape<LlamaOptions>;
ActivationCost embedding_cost(const CostShape& shape);
ActivationCost layer_cost(const CostShape& shape);
ActivationCost head_cost(const CostShape& shape);

}  // namespace zerostep::llama
