#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "runtime/checkpoint/run_state.h"
#include "runtime/report/plan_tables.h"
#include "runtime/report/run_summary.h"
#include "tests/runtime/support/report_case.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using testing::ReportCase;
using testing::TrainingCase;

class PlanReports : public ::testing::TestWithParam<int> {};

TEST_P(PlanReports, TablesAddUpToThePlan) {
  const ReportCase planned(GetParam(), 4, int64_t{1} << 40);
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
    const ReportCase planned(stage, 2, 1);
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
  const ReportCase planned(1, 2, 1000);
  EXPECT_FALSE(planned.report().fits());
  EXPECT_FALSE(plan_json(planned.report())["fits"].get<bool>());
  const std::string text = does_not_fit(planned.report());
  for (const char* part : {"1000 B (the test)", "zero_optimization.stage 3 instead of 1", "bf16.enabled", "number_checkpoints"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  EXPECT_NE(plan_text(planned.report()).find("does NOT fit"), std::string::npos);
}

// Of the device alone, of one memory with the host, and of host and files.
TEST(PlanReport, WhatDoesNotFitSaysTheBytesThatAreMissing) {
  constexpr int64_t kMuch = int64_t{1} << 40;
  ReportCase planned(3, 2, 1000);
  planned.test.config.zero.offload_param.tier = Tier::Host;
  planned.test.config.zero.offload_optimizer.tier = Tier::File;
  planned.test.config.zero.offload_optimizer.nvme_paths = {"."};
  planned.test.config.zero.stage3_param_persistence_threshold = 0;
  planned.plan.emplace(plan_training(planned.test.config, *planned.model, *planned.objective, 2));
  planned.cost = training_cost(planned.test.config, *planned.plan, *planned.model, *planned.objective);
  const PlanCost& cost = planned.cost;
  ASSERT_GT(std::min({cost.device_peak_bytes, cost.host_peak_bytes, cost.file_peak_bytes}), 1000);
  const auto said = [&](const MemoryLimit& limit) {
    planned.limit = limit;
    return does_not_fit(planned.report());
  };
  const std::string of_device = fmt::format(" (the test): {} are missing", human_bytes(cost.device_peak_bytes - 1000));
  EXPECT_SAYS(said({1000, "the test", false, kMuch, kMuch}), "; there are 1000 B" + of_device + ". What helps: ");
  EXPECT_SAYS(said({1000, "the test", true}), fmt::format("; there are 1000 B (the test): {} are missing. ",
                                                          human_bytes(cost.device_peak_bytes + cost.host_peak_bytes - 1000)));
  EXPECT_SAYS(said({kMuch, "the test", false, cost.host_peak_bytes - 77, cost.file_peak_bytes - 99}),
              " (the test): 77 B are missing; and ");
  EXPECT_SAYS(does_not_fit(planned.report()), " (the test): 99 B are missing. ");
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
      ReportCase planned(c.stage, c.world, 1);
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
    const ReportCase planned = planned_with(nullptr);
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
  ReportCase planned(2, 4, int64_t{1} << 40);
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
  ReportCase planned(3, 2, int64_t{1} << 40);
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
  ReportCase planned(2, 2, int64_t{1} << 40);
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
  ReportCase planned(0, 1, int64_t{1} << 40);
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

}  // namespace
}  // namespace zerostep
