#pragma once
#include <vector>

#include "runtime/plan/plan.h"

namespace zerostep {

// Adds rings for the groups that are `wanted`, of so many `bytes` each, to `rings`; gives each group's ring, -1: none. Groups of similar
// size share a ring, so that the large embedding does not set the size of all slots. `what` begins the rings' names: "parameters".
std::vector<int> assign_rings(const std::vector<int64_t>& bytes, const std::vector<bool>& wanted, std::vector<RingPlan>& rings,
                              const char* what, const std::vector<FlatGroup>& groups);

}  // namespace zerostep
