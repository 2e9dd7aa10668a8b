#pragma once
#include <cstdint>
#include <vector>

#include "runtime/engine/training_plan.h"
#include "runtime/plan/verify.h"
#include "runtime/strategy/step_kind.h"

namespace zerostep {

// What the busiest rank receives in a step.
struct StepTraffic {
  int64_t elements_gathered = 0, elements_reduced = 0;
};

// A kind of step as parts of plans: backprop's, the queries', or both one after the other, which update once.
std::vector<PlanPart> parts_of(const TrainingPlan& plan, const StepKind& kind);
// The actions of a kind of step, in order.
std::vector<const Action*> actions_of(const TrainingPlan& plan, const StepKind& kind);
// Elements of scalars that a kind of step reduces beside the actions: of a cosine that is measured, ...
int64_t elements_beside_actions(const StepConfig& config, const StepKind& kind, int world);
// ... and, in the first step, of the weights that epsilon leaves unchanged.
int64_t elements_of_first_step(const Config& config, int world);
StepTraffic traffic_of(const Config& config, const TrainingPlan& plan, const StepKind& kind);
// The most of each in any step of the configuration.
StepTraffic busiest_traffic(const Config& config, const TrainingPlan& plan);

}  // namespace zerostep
