#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/device.h"
#include "offload/flat_kernels.h"
#include "runtime/state/sharded_state.h"

namespace zerostep {

// Elements [first, first + count) of a parameter that is trained, which one rank alone owns, with their reduced gradient (nullptr where
// gradients have no memory).
struct OwnedGradient {
  const ParameterInfo* parameter;
  int64_t first, count;
  const float* gradient;
};
// Of what is trained, what this rank owns.
std::vector<OwnedGradient> owned_gradients(const ShardedState& state);
// Name of the first parameter with a gradient that is not finite in this rank's share, or "". Blocks; no action may be under way.
std::string first_non_finite(ShardedState& state, const Device& device, const FlatKernels& kernels, Stream& stream);

// Adds up values over the ranks that own the parameters between them. Collective.
using AddOverRanks = std::function<void(std::span<double> values, const char* what)>;

}  // namespace zerostep
