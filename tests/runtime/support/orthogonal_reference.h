#pragma once
#include <vector>

#include "models/parameter.h"
#include "runtime/config/config.h"

namespace zerostep::testing {

struct OrthogonalState {
  std::vector<double> first, second;
  int64_t steps = 0;
};

// One step of Muon or MuDaMW on a whole parameter, by their formulas in fp64 on plain tensors. `lr` is the step's; embeddings, positions
// and head are updated as vectors are.
void reference_orthogonal_step(const OptimizerConfig& config, const ParameterInfo& parameter, double lr,
                               const std::vector<double>& gradient, std::vector<float>& values, OrthogonalState& state);

}  // namespace zerostep::testing
