#pragma once
#include "models/gpt2/gpt2.h"

namespace zerostep::gpt2 {

struct CostShape {
  const Gpt2Options& options;
  int64_t batch, sequence;
  DType compute_type;
  bool training;  // dropout on
};
ActivationCost embedding_cost(const CostShape& shape);
ActivationCost block_cost(const CostShape& shape);
ActivationCost head_cost(const CostShape& shape);

}  // namespace zerostep::gpt2
