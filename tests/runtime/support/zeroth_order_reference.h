#pragma once
#include <set>
#include <vector>

#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {

// A plain MeZO loop in LibTorch on one thread: the whole model over ordinary tensors, perturbed copies of everything trained, the estimate
// and the optimizer as formulas in fp64. No engine, plan, slot, kernel or communicator; of the code under test only the noise of
// base/noise.h and the units. `skipped`: steps that are to be left out, as an engine does that found a loss that is no number.
ZerothOrderOutcome run_zeroth_order_reference(const ZerothOrderCase& test, const std::set<int64_t>& skipped = {});

// A direction of a parameter, by the formulas of base/noise.h and of the factors U and V.
std::vector<float> reference_direction(const StepConfig& config, uint64_t seed, int64_t step, int64_t direction,
                                       const ParameterInfo& parameter);

// Gradient of the loss of the batch of the queries of step `step` at the first values, by LibTorch's backprop, in the model's order.
std::vector<std::vector<float>> reference_gradient(const ZerothOrderCase& test, int64_t step);

}  // namespace zerostep::testing
