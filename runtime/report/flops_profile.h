#pragma once
#include <string>
#include <vector>

#include "runtime/config/config.h"
#include "runtime/engine/training_plan.h"
#include "runtime/state/step_timers.h"
#include "runtime/strategy/step_kind.h"

namespace zerostep {

// Parameters and floating-point operations of one unit for this rank's tokens of a step.
struct UnitFlops {
  std::string name;
  int64_t parameters = 0;
  double forward = 0, backward = 0;  // recomputation counts as forward
};
// Sums over a step's visits. The backward of a unit counts twice its forward, once where it has nothing before it to hand a gradient to;
// frozen units before the first trained one have none.
std::vector<UnitFlops> unit_flops(const TrainingPlan& plan, const StepKind& kind);

// What flops_profiler prints at profile_step, a step of that kind: the rank's step, its units down to module_depth (0: the model alone, 1:
// units, -1 or 2: their parameters), and at each depth the top_modules largest.
std::string flops_profile(const Config& config, const TrainingPlan& plan, const StepKind& kind, const StepTimers& timers,
                          double step_seconds);
// Whether a profile may be written there: no file, an empty one, a former profile, or something that is no regular file, as a pipe.
bool may_hold_flops_profile(const std::string& path);

}  // namespace zerostep
