#pragma once
#include <vector>

#include "runtime/config/config.h"

namespace zerostep {

// What one step of a run does.
struct StepKind {
  bool backprop = false, queries = false;
  enum class Update : uint8_t { Gradient, Estimate, Blend } update = Update::Gradient;
  bool instructed = false;  // the queries' directions are made of the backprop gradient
  bool operator==(const StepKind&) const = default;
};
StepKind step_kind(const StepConfig& config, int64_t step);
// Every kind that a run of enough steps has.
std::vector<StepKind> step_kinds(const StepConfig& config);
// The share of a long run's steps that are of this kind, one of step_kinds().
double share_of(const StepConfig& config, const StepKind& kind);
// "queries", "backprop", "backprop and queries".
const char* name_of(const StepKind& kind);

}  // namespace zerostep
