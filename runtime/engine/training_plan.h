#pragma once
#include <optional>
#include <vector>

#include "models/model.h"
#include "models/objective.h"
#include "runtime/config/config.h"
#include "runtime/plan/cost.h"
#include "runtime/plan/plan.h"
#include "runtime/strategy/step_kind.h"

namespace zerostep {

// What a configuration asks of a model on `world` data-parallel ranks, as data: nothing is allocated.
struct TrainingPlan {
  ModelLayout layout;
  Plan train;                      // the step of the mode: the queries, unless it is backprop alone
  std::optional<Plan> backprop;    // of modes that mix both; in the memory that `train` plans
  std::optional<Plan> instructed;  // the queries of steps that make their directions of the backprop gradient; likewise
  Plan evaluate;
  int64_t queries_per_pass = 0;  // given, or chosen by memory
  // Every kind of step that the mode makes: all of its actions in one list, made of the plans above.
  struct Step {
    StepKind kind;
    Plan plan;
  };
  std::vector<Step> steps;
  const Plan& step(const StepKind& kind) const;
};
// The cost of a step of queries.
PlanCost query_cost(const Config& config, const ModelLayout& layout, const Plan& plan, const ModelDefinition& model,
                    const Objective& objective, WorkspaceMeter* meter = nullptr);
TrainingPlan plan_training(const Config& config, const ModelDefinition& model, const Objective& objective, int world);

}  // namespace zerostep
