#pragma once
#include <optional>

#include "runtime/strategy/directions.h"
#include "runtime/strategy/owned_gradient.h"

namespace zerostep {

// Share of the trained 16-bit weights that epsilon z of a step's first direction leaves unchanged; nothing where there are none.
// Collective, blocks; no action may be under way.
std::optional<double> unchanged_share(const Directions& directions, ShardedState& state, int64_t step, const AddOverRanks& add);

}  // namespace zerostep
