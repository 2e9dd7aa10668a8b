#pragma once
#include "models/llama/llama.h"

namespace zerostep::llama {

struct CostShape {
  const LlamaOptions& options;
  int64_t batch, sequence;
  DType compute_type;
};
ActivationCost embedding_cost(const CostShape& shape);
ActivationCost layer_cost(const CostShape& shape);
ActivationCost head_cost(const CostShape& shape);

}  // namespace zerostep::llama
