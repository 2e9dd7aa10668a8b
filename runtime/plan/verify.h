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

// One of the plans that run in the same memory.
struct NamedPlan {
  std::string name;  // "a step of backprop"; "": nothing is said of it
  const Plan* plan;
};

// Proves from lanes and waits alone, whatever the speed of the lanes, that plans of one memory may run in any order, over and over:
//   - two actions that use one buffer, one of them writing, are ordered, in one plan and in each ordered pair of them, of which the first
//     may end where its ranks agree (a skipped step: every lane is waited for then). A plan between the two of a pair only adds order;
//   - what is read was written before, in this plan or because it outlives steps;
//   - a slot holds one group at a time: parameters until they are released, gradients until they are reduced; a staging slot holds the
//     chunk that is asked for, and what was changed in it is stored before another comes and before the plan ends.
// Each problem names both actions and the buffer; at most `most` are told.
PlanProof verify(const ModelLayout& layout, const std::vector<NamedPlan>& plans, size_t most = 20);
inline PlanProof verify(const ModelLayout& layout, const Plan& plan) { return verify(layout, {{"", &plan}}); }

}  // namespace zerostep
