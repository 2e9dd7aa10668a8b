#pragma once
#include <cstdint>

#include "runtime/engine/training_plan.h"
#include "runtime/strategy/step_kind.h"

namespace zerostep {

// What the busiest rank receives in a step.
struct StepTraffic {
  int64_t elements_gathered = 0, elements_reduced = 0;
};

// Elements that the first step reduces besides, to measure the share of the weights that epsilon leaves unchanged; 0 in fp32.
int64_t elements_of_unchanged_share(const Config& config, int world);
StepTraffic traffic_of(const TrainingPlan& plan, const StepKind& kind);
// The most of each in any step of the configuration.
StepTraffic busiest_traffic(const Config& config, const TrainingPlan& plan);

}  // namespace zerostep
