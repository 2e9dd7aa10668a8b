#pragma once
#include "models/bert/bert.h"

namespace zerostep::bert {

struct CostShape {
  const BertOptions& options;
  int64_t batch, sequence;
  DType compute_type;
  bool training;  // dropout on
};
ActivationCost embedding_cost(const CostShape& shape);
ActivationCost layer_cost(const CostShape& shape);
ActivationCost head_cost(const CostShape& shape);
ActivationCost word_prediction_cost(const CostShape& shape);

}  // namespace zerostep::bert
