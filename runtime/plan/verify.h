#pragma once
#include <string>
#include <vector>

#include "runtime/plan/plan.h"

namespace zerostep {

// What a proof looked at, and what speaks against it.
struct PlanProof {
  int64_t actions = 0, waits = 0,
          conflicts = 0;              // conflicts: pairs of uses of one buffer, at least one of them a write, that were found ordered
  std::vector<std::string> problems;  // empty: the plan is free of races
};

// Proves from lanes and waits alone, whatever the speed of the lanes, that a plan may run over and over:
//   - two actions that use one buffer, one of them writing, are ordered, across the boundary of two steps too;
//   - what is read was written before, in this step or because it outlives steps;
//   - a slot holds one group at a time: parameters until they are released, gradients until they are reduced.
// Each problem names both actions and the buffer; at most `most`
// are told.
PlanProof verify(const ModelLayout& layout, const Plan& plan, size_t most = 20);

}  // namespace zerostep
