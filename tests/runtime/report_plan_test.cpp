#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "models/objective.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/flops_profile.h"
#include "runtime/report/plan_report.h"
#include "runtime/report/plan_tables.h"
#include "runtime/report/run_summary.h"
#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/expect_says.h"

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
  for (const CollectiveTotal& c : collectives_of(planned.plan->any_step())) moved += c.elements;
  for (const BufferTotal& b : buffers_of(planned.plan->any_step())) bytes += b.bytes;
  EXPECT_EQ(moved, planned.cost.elements_gathered + planned.cost.elements_reduced);
  EXPECT_EQ(bytes, planned.plan->any_step().device_arena_bytes());
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
  EXPECT_EQ(static_cast<size_t>(std::count(actions.begin(), actions.end(), '\n')), planned.plan->any_step().actions.size());
}
INSTANTIATE_TEST_SUITE_P(Stages, PlanReports, ::testing::Values(0, 1, 2, 3));

TEST(PlanReport, NamesCollectivesAsTheStageDoes) {
  const auto operations = [](int stage) {
    std::string text;
    const Planned planned(stage, 2, 1);
    for (const CollectiveTotal& c : collectives_of(planned.plan->any_step()))
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

// Each tier that is short is named, and only what takes less of it is advised. What is advised is done, and the plan made again.
TEST(PlanReport, AdviceFollowsWhatIsShort) {
  using Change = std::function<void(Config&)>;
  struct Case {
    Tier parameters, state;
    MemoryLimit limit;
    std::vector<const char*> said, unsaid;
    Change change = nullptr;
    int stage = 3, world = 2;
  };
  constexpr int64_t kMuch = int64_t{1} << 40;
  const auto limits = [](int64_t device, bool includes_host, int64_t host, int64_t files) {
    return MemoryLimit{device, "the test", includes_host, host, files};
  };
  const MemoryLimit device = limits(1000, false, kMuch, kMuch), host = limits(kMuch, false, 1000, kMuch),
                    both_in_one = limits(1000, true, 0, kMuch);
  constexpr const char *kParametersToFiles = "offload_param.device \"nvme\"", *kStateToFiles = "offload_optimizer.device \"nvme\"",
                       *kParameters = "offload_param.device;", *kState = "offload_optimizer.device;",
                       *kLessLive = "lower zero_optimization.stage3_max_live_parameters", *kSegments = "number_checkpoints;",
                       *kBf16 = "bf16.enabled", *kThreshold = "stage3_param_persistence_threshold below", *kFewerBuffers = "buffer_count",
                       *kNoCheckpoints = "run.checkpoint_interval 0", *kInCpu = "offload_param.max_in_cpu below",
                       *kReduce = "zero_optimization.reduce_bucket_size below",
                       *kLiveHost = "offload_param.device with a lower stage3_max_live_parameters",
                       *kInputsStay = "cpu_checkpointing false", *kStage = "zero_optimization.stage 3 instead of";
  const auto less_live = [](Config& c) { c.zero.stage3_max_live_parameters = c.zero.stage3_max_reuse_distance = 0; };
  // One unit at a time.
  const auto small_messages = [](Config& c) { c.zero.reduce_bucket_size = 6000; };
  const std::vector<std::pair<const char*, Change>> remedies = {
      {kParametersToFiles, [](Config& c) { c.zero.offload_param.tier = Tier::File; }},
      {kStateToFiles, [](Config& c) { c.zero.offload_optimizer.tier = Tier::File; }},
      {kParameters, [](Config& c) { c.zero.offload_param.tier = Tier::Host; }},
      {kState, [](Config& c) { c.zero.offload_optimizer.tier = Tier::Host; }},
      {kLessLive, less_live},
      {kLiveHost,
       [=](Config& c) {
         c.zero.offload_param.tier = Tier::Host;
         less_live(c);
       }},
      {kSegments, [](Config& c) { c.number_checkpoints = -1; }},
      {kBf16, [](Config& c) { c.precision.compute = DType::BF16; }},
      {kThreshold,
       [=](Config& c) {
         c.zero.stage3_param_persistence_threshold = 0;
         less_live(c);
       }},
      {kFewerBuffers, [](Config& c) { c.zero.offload_param.buffer_count = c.zero.offload_optimizer.buffer_count = 1; }},
      {kNoCheckpoints, [](Config& c) { c.run.checkpoint_interval = 0; }},
      {kInCpu, [](Config& c) { c.zero.offload_param.max_in_cpu = 0; }},
      {kInputsStay, [](Config& c) { c.cpu_checkpointing = false; }},
      {kReduce, small_messages},
      {kStage, [=](Config& c) {
         c.zero.stage = 3;
         less_live(c);
         small_messages(c);
       }}};
  const std::vector<Case> cases = {
      {Tier::File, Tier::File, host, {"of host memory; there are 1000 B", kFewerBuffers, kNoCheckpoints}, {"at the peak", kInCpu}},
      {Tier::Host,
       Tier::Host,
       both_in_one,
       {"what rests on the host", kParametersToFiles, kStateToFiles, kNoCheckpoints},
       {"of host memory;"}},
      {Tier::Host, Tier::Host, host, {"of host memory", kParametersToFiles, kStateToFiles}, {"at the peak", kLessLive}},
      {Tier::File,
       Tier::File,
       limits(1000, false, kMuch, 2000),
       {"at the peak", "there are 1000 B", "in files; there are 1.95 KiB", "less in files"},
       {}},
      {Tier::Device, Tier::Device, device, {kParameters, kState, kLessLive, kReduce, kSegments}, {kStage}},
      // No other tier than the device is short, and what has left it already cannot again.
      {Tier::Host, Tier::Host, device, {"at the peak", kLessLive, kSegments, kBf16}, {"of host memory"}},
      {Tier::Device, Tier::Host, device, {kParameters}, {kState}},
      {Tier::Host, Tier::Device, device, {kState}, {kParameters}},
      {Tier::Device, Tier::Device, both_in_one, {kParametersToFiles, kStateToFiles}, {kParameters, kState}},
      // Nothing is gathered where one rank keeps all of it; what would be takes as much, unless little of it is kept.
      {Tier::Device, Tier::Device, device, {kLiveHost, kState}, {kLessLive, kThreshold, kParameters}, nullptr, 3, 1},
      {Tier::Device, Tier::Device, device, {kParameters}, {kLiveHost}, [=](Config& c) { less_live(c); }, 3, 1},
      // All parameters are small ones.
      {Tier::Host,
       Tier::Host,
       device,
       {kThreshold},
       {kParameters, kState, kLessLive},
       [](Config& c) { c.zero.stage3_param_persistence_threshold = 1000000; }},
      // No state and whole gradients.
      {Tier::Device,
       Tier::Device,
       device,
       {kStage},
       {kState, kParameters},
       [](Config& c) {
         c.optimizer.type = OptimizerConfig::Type::SGD;
         c.optimizer.momentum = 0;
       },
       1},
      // fp32 masters would come beside the state.
      {Tier::Device, Tier::Host, host, {kStateToFiles}, {kBf16}},
      {Tier::Host, Tier::Host, host, {kStateToFiles}, {kNoCheckpoints}, [](Config& c) { c.run.checkpoint_interval = 0; }},
      {Tier::File, Tier::File, host, {kInCpu}, {}, [](Config& c) { c.zero.offload_param.max_in_cpu = 1000000; }},
      {Tier::Host, Tier::Host, host, {kInputsStay}, {}, [](Config& c) {
         c.number_checkpoints = -1;
         c.cpu_checkpointing = true;
       }}};
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    const auto planned_with = [&](const Change& change) {
      Planned planned(c.stage, c.world, 1);
      planned.test.model.n_layer = 24;  // what rests is more than the slots of a unit
      planned.model = make_gpt2(planned.test.model);
      Config& config = planned.test.config;
      config.zero.offload_param.tier = c.parameters, config.zero.offload_optimizer.tier = c.state;
      config.zero.offload_param.nvme_paths = config.zero.offload_optimizer.nvme_paths = {"."};
      config.zero.offload_param.buffer_count = config.zero.offload_optimizer.buffer_count = 2;
      config.zero.stage3_param_persistence_threshold = 0;
      config.run.checkpoint_interval = 1;
      for (const Change* now : {&c.change, &change})
        if (*now) (*now)(config);
      planned.plan.emplace(plan_training(config, *planned.model, *planned.objective, c.world));
      planned.cost = training_cost(config, *planned.plan, *planned.model, *planned.objective);
      planned.cost.host_peak_bytes += staging_bytes(config, *planned.plan);
      planned.limit = c.limit;
      return planned;
    };
    const auto lacking = [&](const PlanReport& report) {
      return std::max<int64_t>(0, report.needed_bytes() - c.limit.device_bytes) +
             (c.limit.includes_host ? 0 : std::max<int64_t>(0, report.cost.host_peak_bytes - c.limit.host_bytes)) +
             std::max<int64_t>(0, report.cost.file_peak_bytes - c.limit.file_bytes);
    };
    const Planned planned = planned_with(nullptr);
    ASSERT_FALSE(planned.report().fits()) << i;
    const std::string text = does_not_fit(planned.report());
    for (const char* part : c.said) EXPECT_NE(text.find(part), std::string::npos) << i << ", " << part << ": " << text;
    for (const char* part : c.unsaid) EXPECT_EQ(text.find(part), std::string::npos) << i << ", " << part << ": " << text;
    for (const auto& [remedy, change] : remedies)
      if (text.find(remedy) != std::string::npos) {
        EXPECT_LT(lacking(planned_with(change).report()), lacking(planned.report())) << i << ", " << remedy << ": " << text;
      }
  }
}

// What the state is copied to for a checkpoint is a line of its own, and buffers of the host add up to its peak.
TEST(PlanReport, ListsWhatCheckpointsAreStagedIn) {
  Planned planned(2, 4, int64_t{1} << 40);
  planned.test.config.zero.offload_optimizer.tier = Tier::Host;
  for (const int64_t interval : {0, 5}) {
    planned.test.config.run.checkpoint_interval = interval;
    planned.plan.emplace(plan_training(planned.test.config, *planned.model, *planned.objective, 4));
    planned.cost = training_cost(planned.test.config, *planned.plan, *planned.model, *planned.objective);
    planned.cost.host_peak_bytes += staging_bytes(planned.test.config, *planned.plan);
    int64_t host = 0, staged = 0;
    const nlohmann::ordered_json json = plan_json(planned.report());
    for (const auto& buffer : json["buffers"]) {
      if (buffer["tier"] == "host") host += buffer["bytes"].get<int64_t>();
      if (buffer["kind"] == "state staged for checkpoints") staged += buffer["bytes"].get<int64_t>();
    }
    EXPECT_EQ(host, planned.cost.host_peak_bytes);
    EXPECT_EQ(staged, staging_bytes(planned.test.config, *planned.plan));
    EXPECT_EQ(staged > 0, interval > 0);
    const std::string text = plan_text(planned.report()), line = fmt::format("{:>16} bytes in 1 buffer (host)", grouped(staged));
    EXPECT_EQ(text.find("  state staged for checkpoints   " + line) != std::string::npos, interval > 0) << text;
  }
}

// In one line, with the same words in the plan and before a run: shards of a group are padded, nothing else is.
TEST(PlanReport, SaysWhatRestsWhere) {
  Planned planned(3, 2, int64_t{1} << 40);
  const auto lines = [&] {
    planned.plan.emplace(plan_training(planned.test.config, *planned.model, *planned.objective, 2));
    std::string header;
    for (const std::string& line : run_header(planned.report(), {})) header += line + "\n";
    return std::pair(plan_text(planned.report()), header);
  };
  const auto [none, no_header] = lines();
  EXPECT_EQ(none.find("at rest"), std::string::npos) << none;
  EXPECT_EQ(no_header.find("at rest"), std::string::npos) << no_header;
  planned.test.config.zero.stage3_param_persistence_threshold = 0;
  planned.test.config.zero.offload_param.tier = Tier::Host;
  planned.test.config.zero.offload_optimizer = {.tier = Tier::File, .nvme_paths = {"/tmp"}};
  const auto [text, header] = lines();
  int64_t shard = 0, in_files = 0;
  for (const FlatGroup& group : planned.plan->layout.groups) {
    shard += 4 * group.full_elements() / 2;
    in_files += round_up(4 * group.full_elements() / 2, 4096);
  }
  const std::string expected =
      fmt::format("parameters: host {}; gradients: file {}; optimizer state: file ", human_bytes(shard), human_bytes(in_files));
  EXPECT_NE(text.find("  at rest                        " + expected), std::string::npos) << text;
  EXPECT_NE(header.find("at rest        a rank: " + expected), std::string::npos) << header;
}

// What waits for the next step is named, where it moves something.
TEST(PlanReport, NamesWhatAnUpdateThatWaitsGathers) {
  Planned planned(2, 2, int64_t{1} << 40);
  EXPECT_EQ(plan_text(planned.report()).find("updated before"), std::string::npos);
  planned.test.config.zero.offload_optimizer.tier = Tier::Host;
  planned.plan.emplace(plan_training(planned.test.config, *planned.model, *planned.objective, 2));
  int64_t padded = 0;
  for (const FlatGroup& group : planned.plan->layout.groups) padded += group.full_elements();
  const std::string text = plan_text(planned.report());
  EXPECT_NE(text.find(fmt::format(" {}, of the update that waited", grouped(padded / 2))), std::string::npos) << text;
}

// Units of which no token can be run: their workspace is named as not measured, and the rest is an estimate.
TEST(PlanReport, UnitsThatCouldNotBeMeasuredAreNamed) {
  Planned planned(0, 1, int64_t{1} << 40);
  planned.test.model.n_layer = 1;
  planned.test.model.n_inner = int64_t{1} << 26;  // x 20 wide x 2 matrices x 4 bytes
  planned.model = make_gpt2(planned.test.model);
  planned.plan.emplace(plan_training(planned.test.config, *planned.model, *planned.objective, 1));
  WorkspaceMeter meter;
  planned.cost = training_cost(planned.test.config, *planned.plan, *planned.model, *planned.objective, &meter);
  EXPECT_EQ(planned.cost.unmeasured_units, std::set<int>{1});
  const std::string text = plan_text(planned.report());
  EXPECT_NE(text.find("an estimate from this machine"), std::string::npos) << text;
  EXPECT_NE(text.find("not measured             " + planned.model->units()[1].name + ": one token takes more than 2.00 GiB"),
            std::string::npos)
      << text;
  EXPECT_TRUE(plan_json(planned.report())["workspace_estimated"].get<bool>());
}

// What was predicted stands beside what was measured.
TEST(RunFooter, ComparesThePredictionWithTheRun) {
  const Planned planned(0, 1, int64_t{1} << 40);
  Prediction prediction;
  prediction.step_seconds = 0.15;
  PlanReport report = planned.report();
  RunOutcome outcome;
  outcome.steps = 10;
  outcome.seconds = 2;
  const auto text = [&] {
    std::string out;
    for (const std::string& line : run_footer(report, {}, outcome)) out += line + "\n";
    return out;
  };
  EXPECT_EQ(text().find("predicted"), std::string::npos) << text();
  report.prediction = &prediction;
  EXPECT_NE(text().find("predicted      150.0 ms a step, bound by compute: 25 % less than measured"), std::string::npos) << text();
  outcome.seconds = 1;
  EXPECT_NE(text().find("50 % more than measured\n"), std::string::npos) << text();
  prediction.is_unsteady = true;
  EXPECT_NE(text().find("50 % more than measured; from figures measured on a busy machine: run `zerostep bench machine` again\n"),
            std::string::npos)
      << text();
}

TEST(RunFooter, SaysWhereOtherProgramsHoldCores) {
  const Planned planned(0, 1, int64_t{1} << 40);
  Prediction prediction;
  prediction.step_seconds = 0.1;
  PlanReport report = planned.report();
  report.prediction = &prediction;
  RunOutcome outcome;
  outcome.steps = 10;
  const auto text = [&](double step_seconds, MachineLoad load) {
    outcome.seconds = 10 * step_seconds;
    outcome.load = load;
    std::string out;
    for (const std::string& line : run_footer(report, {}, outcome)) out += line + "\n";
    return out;
  };
  const std::string says =
      "than measured; the load of the machine is 2.5 on 2 cores, so that other programs hold cores: OMP_WAIT_POLICY=passive or ";
  EXPECT_SAYS(text(0.25, {2.5, 2}), says);
  for (const auto& [seconds, load] : {std::pair{0.19, MachineLoad{2.5, 2}}, {0.25, MachineLoad{2, 2}}, {0.25, MachineLoad{0, 2}}})
    EXPECT_EQ(text(seconds, load).find("the load"), std::string::npos) << text(seconds, load);
}

// Epochs are whole steps: what is left over is said.
TEST(RunHeader, SaysWhatEpochsLeaveOut) {
  Planned planned(0, 1, int64_t{1} << 40);
  Config& config = planned.test.config;
  const auto epochs = [&](double epochs, int64_t steps, int64_t samples) {
    config.run.epochs = epochs;
    config.run.steps = steps;
    config.batch.train_batch_size = 8;
    RunFacts facts;
    facts.train.samples = samples;
    std::string out;
    for (const std::string& line : run_header(planned.report(), facts))
      if (line.starts_with("epochs ")) out += line.substr(15);
    return out;
  };
  EXPECT_EQ(epochs(1, 2, 20), "1 x 20 samples, 8 a step: the last 4 samples, less than a step, are left out");
  EXPECT_EQ(epochs(1, 2, 17), "1 x 17 samples, 8 a step: the last 1 sample, less than a step, is left out");
  EXPECT_EQ(epochs(2, 5, 20), "2 x 20 samples, 8 a step");
  EXPECT_EQ(epochs(0.5, 1, 20), "0.5 x 20 samples, 8 a step: the last 2 samples, less than a step, are left out");
  EXPECT_EQ(epochs(0.1, 1, 20), "0.1 x 20 samples, 8 a step: less than a step, of which there is one");
  EXPECT_EQ(epochs(0, 5, 20), "");
  EXPECT_EQ(plan_json(planned.report())["run_steps"], 5);
  config.run.steps = 0;
  EXPECT_FALSE(plan_json(planned.report()).contains("run_steps"));
}

// What the whole process held at its peak stands beside what was planned and what it had before.
TEST(RunFooter, ComparesTheProcessWithThePlan) {
  const Planned planned(0, 1, int64_t{1} << 40);
  PlanReport report = planned.report();
  RunFacts facts;
  RunOutcome outcome;
  outcome.steps = 1, outcome.seconds = 1;
  const auto text = [&] {
    std::string out;
    for (const std::string& line : run_footer(report, facts, outcome)) out += line + "\n";
    return out;
  };
  EXPECT_EQ(text().find("resident"), std::string::npos) << text();
  EXPECT_EQ(text().find("disk"), std::string::npos) << text();
  outcome.steps = 2, outcome.file_bytes_read = 3'000'000'000, outcome.file_bytes_written = 1'000'000'000;
  EXPECT_NE(text().find("disk           1.40 GiB read and 477 MiB written a step by rank 0: 4 GB/s\n"), std::string::npos) << text();
  const int64_t all = report.cost.device_peak_bytes + report.cost.host_peak_bytes;
  facts.resident_bytes = 3 * all;
  outcome.resident_peak_bytes = 5 * all;
  const std::string sum = " of this process = " + human_bytes(3 * all) + " before the model + " + human_bytes(all) + " planned ",
                    one = human_bytes(all);
  EXPECT_SAYS(text(), "resident       peak " + human_bytes(5 * all) + sum + "+ " + one + " beside the plan\n");
  outcome.resident_peak_bytes = 3 * all;
  EXPECT_SAYS(text(), "resident       peak " + human_bytes(3 * all) + sum + "- " + one + " never held at once\n");
}

TEST(FlopsProfile, CountsEachUnitOnceForwardAndTwiceBackward) {
  const Planned planned(0, 1, 1);
  const auto& config = planned.test.config;
  const std::vector<UnitFlops> units = unit_flops(*planned.plan, step_kind(config.step, 0));
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
  const std::string text = flops_profile(config, *planned.plan, step_kind(config.step, 0), timers, 2);
  EXPECT_NE(text.find("transformer.h.0.attn.c_attn.weight"), std::string::npos) << text;
}

// A mode of two kinds of steps is profiled as the step that was timed.
TEST(FlopsProfile, IsOfTheKindOfItsStep) {
  testing::ZerothOrderCase test = testing::ZerothOrderCase::tiny(StepConfig::Mode::Calibrate);
  test.config.step.monitor_interval = 2;
  test.config.step.query_sequence_length = 6;
  test.share_over(1);
  const auto model = make_gpt2(test.model);
  const auto objective = make_cross_entropy();
  const TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
  const auto sums = [&](int64_t step) {
    double forward = 0, backward = 0;
    const StepKind kind = step_kind(test.config.step, step);
    for (const UnitFlops& u : unit_flops(plan, kind)) {
      forward += u.forward;
      backward += u.backward;
    }
    EXPECT_EQ(forward + backward, plan.step(kind).flops) << step;
    return std::pair{forward, backward};
  };
  const auto queries = sums(0), backprop = sums(1), both = sums(3);
  EXPECT_EQ(queries.second, 0);
  EXPECT_GT(backprop.second, 1.5 * backprop.first);
  EXPECT_DOUBLE_EQ(both.first, queries.first + backprop.first);
  EXPECT_DOUBLE_EQ(both.second, backprop.second);
  // Two directions of two signs, on samples of half the length.
  EXPECT_NEAR(queries.first / backprop.first, 4 * 0.5, 0.1);
}

class ModeLines : public ::testing::Test {
 protected:
  std::string header(StepConfig::Mode mode, const std::function<void(Config&)>& change = {}) {
    testing::ZerothOrderCase test = testing::ZerothOrderCase::tiny(mode);
    test.config.number_checkpoints = mode == StepConfig::Mode::ZerothOrder ? 0 : 2;
    if (change) change(test.config);
    test.share_over(1);
    const auto model = make_gpt2(test.model);
    const auto objective = make_cross_entropy();
    const TrainingPlan plan = plan_training(test.config, *model, *objective, 1);
    const PlanCost cost = training_cost(test.config, plan, *model, *objective);
    const PlanReport report{test.config, plan, cost, {1, "the test"}};
    RunFacts facts;
    facts.train = {10, 120, 121, false};
    std::string text = plan_text(report) + does_not_fit(report);
    for (const std::string& line : run_header(report, facts)) text += "\n" + line;
    return text;
  }
};

// Each line where the run does what it says, and nowhere else.
TEST_F(ModeLines, SayWhatTheModeDoes) {
  struct Line {
    const char* text;
    const char* modes;  // f z c i a
  };
  using Mode = StepConfig::Mode;
  constexpr std::pair<char, Mode> kModes[] = {
      {'f', Mode::FirstOrder}, {'z', Mode::ZerothOrder}, {'c', Mode::Calibrate}, {'i', Mode::Instruct}, {'a', Mode::Alternating}};
  constexpr Line kLines[] = {{"recomputing activations", "fcia"},
                             {"\nbatch ", "fcia"},
                             {"\nqueries ", "zcia"},
                             {"backprop every 2 steps", "ci"},
                             {"1 after each step of backprop", "a"},
                             {"with queries beside it every 6", "c"},
                             {"receives in a step\n", "fz"},
                             {"receives in a step of queries\n", "cia"},
                             {"receives in a step of backprop\n", "ca"},
                             {"receives in a step of backprop and queries\n", "ci"},
                             {"\nweights        are not kept when the run ends: run.checkpoint_interval N", "fcia"},
                             {"\nweights        are not kept when the run ends, but `zerostep rebuild`", "z"},
                             {"the loss is that of the queries", ""}};
  for (const auto& [letter, mode] : kModes) {
    const std::string text = header(mode, [](Config& c) { c.step.monitor_interval = 3; });
    for (const Line& line : kLines)
      EXPECT_EQ(text.find(line.text) != std::string::npos, std::string(line.modes).find(letter) != std::string::npos)
          << letter << ": " << line.text << "\n"
          << text;
    const std::string apart = header(mode, [](Config& c) { c.step.bp_data = StepConfig::BackpropData::Own; });
    EXPECT_EQ(apart.find("the loss is that of the queries, bp loss that of backprop") != std::string::npos, letter != 'f' && letter != 'z');
    // What does not fit is helped by what the mode has.
    const std::string plain = header(mode, [](Config& c) { c.number_checkpoints = 0; });
    EXPECT_EQ(plain.find("activation_checkpointing.number_checkpoints") != std::string::npos, letter != 'z') << plain;
  }
}

TEST_F(ModeLines, WeightsThatAreKeptAreNotSpokenOf) {
  EXPECT_EQ(header(StepConfig::Mode::FirstOrder, [](Config& c) { c.run.checkpoint_interval = 2; }).find("\nweights "), std::string::npos);
  EXPECT_EQ(header(StepConfig::Mode::FirstOrder, [](Config& c) { c.run.keep_best = true; }).find("\nweights "), std::string::npos);
}

}  // namespace
}  // namespace zerostep
