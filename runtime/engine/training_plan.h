#pragma once
#include "models/objective.h"
#include "models/unit.h"
#include "runtime/config/config.h"
#include "runtime/plan/plan.h"

namespace zerostep {

// What a configuration asks of a model on `world` data-parallel ranks, as data: nothing is allocated.
struct TrainingPlan {
  ModelLayout layout;
  Plan train, evaluate;  // over the same groups and rings
};
TrainingPlan plan_training(const Config& config, const ModelDefinition& model, const Objective& objective, int world);

}  // namespace zerostep
