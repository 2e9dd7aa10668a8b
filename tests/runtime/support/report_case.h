#pragma once
#include <cstdint>
#include <memory>
#include <optional>

#include "models/objective.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_report.h"
#include "tests/runtime/support/training_case.h"

namespace zerostep::testing {

// A plan of the small test model with everything that its report refers to.
struct ReportCase {
  ReportCase(int stage, int world, int64_t limit_bytes) {
    test.config.zero.stage = stage;
    test.config.data.sequence_length = test.sequence;
    test.config.batch.train_batch_size = test.global_batch;
    test.set_micro_batch(1, world);
    model = make_gpt2(test.model);
    objective = make_cross_entropy();
    plan.emplace(plan_training(test.config, *model, *objective, world));
    cost = training_cost(test.config, *plan, *model, *objective);
    limit = {limit_bytes, "the test"};
  }
  PlanReport report() const { return {test.config, *plan, cost, limit}; }
  TrainingCase test = TrainingCase::tiny();
  std::unique_ptr<ModelDefinition> model;
  std::unique_ptr<Objective> objective;
  std::optional<TrainingPlan> plan;
  PlanCost cost;
  MemoryLimit limit;
};

}  // namespace zerostep::testing
