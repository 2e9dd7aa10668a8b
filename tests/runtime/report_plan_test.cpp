#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "models/objective.h"
#include "runtime/report/flops_profile.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/plan_tables.h"
#include "tests/runtime/support/training_case.h"

namespace zerostep {
namespace {

using testing::TrainingCase;

// A plan of the small test model with everything that its report refers to.
struct Planned {
  Planned(int stage, int world, int64_t limit_bytes) {
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

class PlanReports : public ::testing::TestWithParam<int> {};

TEST_P(PlanReports, TablesAddUpToThePlan) {
  const Planned planned(GetParam(), 4, int64_t{1} << 40);
  int64_t moved = 0, bytes = 0;
  for (const CollectiveTotal& c : collectives_of(planned.plan->train)) moved += c.elements;
  for (const BufferTotal& b : buffers_of(planned.plan->train)) bytes += b.bytes;
  EXPECT_EQ(moved, planned.cost.elements_gathered + planned.cost.elements_reduced);
  EXPECT_EQ(bytes, planned.plan->train.device_arena_bytes);
  EXPECT_EQ(planned.cost.device_peak_bytes, planned.cost.arena_bytes + planned.cost.activation_peak_bytes);

  const auto json = plan_json(planned.report());
  EXPECT_EQ(json["elements_gathered"].get<int64_t>(), planned.cost.elements_gathered);
  EXPECT_EQ(json["elements_reduced"].get<int64_t>(), planned.cost.elements_reduced);
  EXPECT_EQ(json["device_peak_bytes"].get<int64_t>(), planned.cost.device_peak_bytes);
  EXPECT_EQ(json["train_micro_batch_size_per_gpu"].get<int64_t>() * json["gradient_accumulation_steps"].get<int64_t>() * 4,
            json["train_batch_size"].get<int64_t>());
  EXPECT_TRUE(json["fits"].get<bool>());
  // One line an action.
  const std::string actions = plan_actions_text(*planned.plan);
  EXPECT_EQ(static_cast<size_t>(std::count(actions.begin(), actions.end(), '\n')), planned.plan->train.actions.size());
}
INSTANTIATE_TEST_SUITE_P(Stages, PlanReports, ::testing::Values(0, 1, 2, 3));

TEST(PlanReport, NamesCollectivesAsTheStageDoes) {
  const auto operations = [](int stage) {
    std::string text;
    const Planned planned(stage, 2, 1);
    for (const CollectiveTotal& c : collectives_of(planned.plan->train))
      if (c.what != "scalars") text += c.operation + " of " + c.what + "; ";
    return text;
  };
  EXPECT_EQ(operations(0), "all-reduce of gradients; ");
  EXPECT_EQ(operations(1), "reduce-scatter of gradients; all-gather of updated parameters; ");
  EXPECT_EQ(operations(2), "reduce-scatter of gradients; all-gather of updated parameters; ");
  EXPECT_EQ(operations(3), "all-gather of parameters; reduce-scatter of gradients; ");
}

TEST(PlanReport, WhatDoesNotFitSaysWhyAndWhatHelps) {
  const Planned planned(1, 2, 1000);
  EXPECT_FALSE(planned.report().fits());
  EXPECT_FALSE(plan_json(planned.report())["fits"].get<bool>());
  const std::string text = does_not_fit(planned.report());
  for (const char* part : {"1000 B (the test)", "zero_optimization.stage 3 instead of 1", "bf16.enabled", "number_checkpoints"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  EXPECT_NE(plan_text(planned.report()).find("does NOT fit"), std::string::npos);
}

TEST(FlopsProfile, CountsEachUnitOnceForwardAndTwiceBackward) {
  const Planned planned(0, 1, 1);
  const auto& config = planned.test.config;
  const std::vector<UnitFlops> units = unit_flops(config, *planned.plan, *planned.model);
  ASSERT_EQ(units.size(), planned.model->units().size());
  for (size_t u = 0; u < units.size(); ++u) {
    EXPECT_EQ(units[u].name, planned.model->units()[u].name);
    EXPECT_EQ(units[u].parameters, planned.model->units()[u].num_elements());
    EXPECT_EQ(units[u].backward, (u == 0 ? 1 : 2) * units[u].forward);
  }
  // A block's matrices alone: c_attn, c_proj and the two of the MLP, two operations a weight and token.
  const double width = static_cast<double>(planned.test.model.n_embd), inner = static_cast<double>(planned.test.model.inner_width()),
               tokens = static_cast<double>(planned.test.global_batch * planned.test.sequence);
  const double matrices = 2 * (4 * width * width + 2 * width * inner) * tokens;
  EXPECT_GE(units[1].forward, matrices);
  EXPECT_LE(units[1].forward, 1.5 * matrices);
  StepTimers timers;
  timers.forward = 0.5;
  const std::string text = flops_profile(config, *planned.plan, *planned.model, timers, 2);
  EXPECT_NE(text.find("transformer.h.0.attn.c_attn.weight"), std::string::npos) << text;
}

}  // namespace
}  // namespace zerostep
