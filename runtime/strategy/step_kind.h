#pragma once
#include "runtime/config/config.h"

namespace zerostep {

// What one step of a run does.
struct StepKind {
  bool backprop = false, queries = false;
  enum class Update : uint8_t { Gradient, Estimate, Blend } update = Update::Gradient;
  bool instructed = false;  // the queries' directions are made of the backprop gradient
};
StepKind step_kind(const StepConfig& config, int64_t step);

}  // namespace zerostep
