#pragma once
#include <cstdint>

#include "runtime/engine/training_plan.h"
#include "runtime/plan/cost.h"

namespace zerostep {

// Elements that the first step reduces besides, to measure the share of the weights that epsilon leaves unchanged; 0 in fp32.
int64_t elements_of_unchanged_share(const Config& config, int world);

// The cost of training: of each number the most that a kind of step has, the first step's measurement included. Memory is that of
// evaluation where the configuration asks for one and it needs more. Of host memory what rests there is counted, not what checkpoints are
// staged in. A `meter` of another device than the plan's measures nothing. `multiprocessors`: of the GPU that a plan is for, where nothing
// is measured there; 0: unknown, which counts as the most that a GPU has (kMostMultiprocessors).
PlanCost training_cost(const Config& config, const TrainingPlan& plan, const ModelDefinition& model, const Objective& objective,
                       WorkspaceMeter* meter = nullptr, int64_t multiprocessors = 0);

}  // namespace zerostep
