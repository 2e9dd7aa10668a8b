#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_tables.h"
#include "tests/runtime/support/tier_folder.h"
#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

struct TrafficCase {
  const char* name;
  Mode mode;
  int64_t bp_interval, monitor_interval;
  bool energy = false;
};
constexpr TrafficCase kCases[] = {{"fo", Mode::FirstOrder, 0, 0},
                                  {"zo", Mode::ZerothOrder, 0, 0},
                                  {"calibrate", Mode::Calibrate, 2, 0},
                                  {"calibrate_monitor1", Mode::Calibrate, 2, 1},
                                  {"calibrate_monitor2", Mode::Calibrate, 2, 2},
                                  {"calibrate_every_step_monitored", Mode::Calibrate, 1, 1},
                                  {"instruct_cosine", Mode::Instruct, 2, 0},
                                  {"instruct_energy", Mode::Instruct, 1, 1, true},
                                  {"alternating", Mode::Alternating, 0, 0}};

ZerothOrderCase case_of(const TrafficCase& c) {
  ZerothOrderCase test = ZerothOrderCase::tiny(c.mode);
  test.model.n_layer = 2;
  test.config.step.bp_interval = c.bp_interval;
  test.config.step.monitor_interval = c.monitor_interval;
  test.config.step.instruct.energy = c.energy;
  test.steps = 4;
  return test;
}

class StepTraffics : public ::testing::TestWithParam<TrafficCase> {};

// Counted equals planned in every step, and the plan's numbers are those of the busiest one.
TEST_P(StepTraffics, WhatIsPlannedIsMeasured) {
  for (const int stage : {0, 1, 2, 3})
    for (const auto& [type, exact_norm, optimizer] : {std::tuple{DType::F32, false, OptimizerConfig::Type::AdamW},
                                                      {DType::BF16, true, OptimizerConfig::Type::AdamW},
                                                      {DType::F32, true, OptimizerConfig::Type::Muon}}) {
      ZerothOrderCase test = case_of(GetParam());
      test.config.zero.stage = stage;
      test.config.precision.compute = type;
      test.config.step.exact_norm = exact_norm;
      test.config.optimizer.type = optimizer;
      SCOPED_TRACE(fmt::format("stage {} {} exact_norm {} optimizer {}", stage, name_of(type), exact_norm, static_cast<int>(optimizer)));
      const ZerothOrderOutcome run = run_zeroth_order_threads(test, 2);
      StepTraffic most;
      for (size_t s = 0; s < run.traffic.size(); ++s) {
        EXPECT_EQ(run.traffic[s].elements_gathered, run.planned_traffic[s].elements_gathered) << "step " << s;
        EXPECT_EQ(run.traffic[s].elements_reduced, run.planned_traffic[s].elements_reduced) << "step " << s;
        most.elements_gathered = std::max(most.elements_gathered, run.traffic[s].elements_gathered);
        most.elements_reduced = std::max(most.elements_reduced, run.traffic[s].elements_reduced);
      }
      test.share_over(2);
      const auto model = make_gpt2(test.model);
      const auto objective = make_cross_entropy();
      const TrainingPlan plan = plan_training(test.config, *model, *objective, 2);
      const PlanCost cost = training_cost(test.config, plan, *model, *objective);
      EXPECT_EQ(cost.elements_gathered, most.elements_gathered);
      EXPECT_EQ(cost.elements_reduced, most.elements_reduced);
      for (const auto& [kind, step] : plan.steps) {
        int64_t listed = 0;
        for (const CollectiveTotal& c : collectives_of(step)) listed += c.elements;
        EXPECT_EQ(listed, step.elements_gathered + step.elements_reduced) << name_of(kind);
      }
    }
}
INSTANTIATE_TEST_SUITE_P(All, StepTraffics, ::testing::ValuesIn(kCases),
                         [](const ::testing::TestParamInfo<TrafficCase>& info) { return std::string(info.param.name); });

// An update that waits for the next step counts there: not in the first step, nor in one before which someone has looked at the parameters.
TEST(StepTraffic, AnUpdateThatWaitsCountsInTheStepThatAppliesIt) {
  ZerothOrderCase test = ZerothOrderCase::tiny(Mode::FirstOrder);
  test.config.zero.stage = 1;
  test.config.zero.offload_optimizer.tier = Tier::Host;
  test.steps = 4;
  EngineSetup setup{.updates = std::nullopt};
  setup.before_step = [&](int64_t step, Engine& engine) {
    std::vector<float> values;
    if (step == 2) engine.read_parameter(0, 0, values);
  };
  const ZerothOrderOutcome run = run_zeroth_order_threads(test, 2, setup);
  const auto model = make_gpt2(test.model);
  int64_t padded = 0;
  test.share_over(2);
  const TrainingPlan plan = plan_training(test.config, *model, *make_cross_entropy(), 2);
  for (const FlatGroup& group : plan.layout.groups) padded += group.full_elements();
  for (size_t s = 0; s < 4; ++s) {
    EXPECT_EQ(run.planned_traffic[s].elements_gathered, padded / 2);
    EXPECT_EQ(run.traffic[s].elements_gathered, s == 1 || s == 3 ? padded / 2 : 0) << s;
    EXPECT_EQ(run.traffic[s].elements_reduced, run.planned_traffic[s].elements_reduced) << s;
  }
}

// What the files of a rank count in a step is what its plan sums up, where the last chunk of a group's state is shorter than the others and
// where updates wait for the next step, too.
TEST(StepTraffic, FilesMoveThePlannedBytesInEachStep) {
  const TierFolder folder;
  for (const auto& [mode, updates] : {std::pair{Mode::FirstOrder, Updates::Immediate},
                                      {Mode::FirstOrder, Updates::Deferred},
                                      {Mode::ZerothOrder, Updates::Immediate},
                                      {Mode::ZerothOrder, Updates::Deferred},
                                      {Mode::Calibrate, Updates::Immediate}}) {
    SCOPED_TRACE(fmt::format("mode {}, updates {}", static_cast<int>(mode), static_cast<int>(updates)));
    ZerothOrderCase test = ZerothOrderCase::tiny(mode);
    test.config.zero.stage = 3;
    test.config.zero.stage3_param_persistence_threshold = 0;
    test.config.zero.sub_group_size = 600;
    test.config.step.bp_interval = mode == Mode::Calibrate ? 2 : 0;
    test.steps = 4;
    put(test.config, {Tier::File, Tier::File}, folder);
    const ZerothOrderOutcome run = run_zeroth_order_threads(test, 2, {.updates = updates});
    test.share_over(2);
    const auto model = make_gpt2(test.model);
    const TrainingPlan plan = plan_training(test.config, *model, *make_cross_entropy(), 2, updates);
    const std::vector<PlannedBuffer>& buffers = plan.any_step().buffers;
    EXPECT_TRUE(std::any_of(buffers.begin(), buffers.end(), [](const PlannedBuffer& b) {
      return b.tier == Tier::File && b.bytes < b.num_chunks * b.chunk_bytes;
    })) << "no chunk is shorter than the others";
    ASSERT_EQ(run.traffic.size(), 4u);
    for (size_t s = 0; s < 4; ++s) {
      EXPECT_GT(run.traffic[s].file_bytes_read, 0) << s;
      EXPECT_EQ(run.traffic[s].file_bytes_read, run.planned_traffic[s].file_bytes_read) << s;
      EXPECT_EQ(run.traffic[s].file_bytes_written, run.planned_traffic[s].file_bytes_written) << s;
    }
  }
}

}  // namespace
}  // namespace zerostep::testing
