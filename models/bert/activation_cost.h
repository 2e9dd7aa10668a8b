#pragma once
#include "models/bert/bert.h"
#include "models/cost_parts.h"

namespace zerostep::bert {

using CostShape = zerostep::CostShape<BertOptions>;
ActivationCost embedding_cost(const CostShape& shape);
ActivationCost layer_cost(const CostShape& shape);
ActivationCost head_cost(const CostShape& shape);
ActivationCost word_prediction_cost(const CostShape& shape);

}  // namespace zerostep::bert
