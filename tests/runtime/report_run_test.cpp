#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/format.h"
#include "runtime/report/plan_tables.h"
#include "runtime/report/run_summary.h"
#include "tests/runtime/support/report_case.h"
#include "tests/runtime/support/zeroth_order_case.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

using testing::ReportCase;
using testing::TrainingCase;

// What was predicted stands beside what was measured.
TEST(RunFooter, ComparesThePredictionWithTheRun) {
  const ReportCase planned(0, 1, int64_t{1} << 40);
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
  const ReportCase planned(0, 1, int64_t{1} << 40);
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
  ReportCase planned(0, 1, int64_t{1} << 40);
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
  const ReportCase planned(0, 1, int64_t{1} << 40);
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
  // In its second the run read for 0.6 s of a disk that reads 5 GB/s, and wrote for 0.25 s.
  Prediction prediction;
  report.prediction = &prediction;
  EXPECT_SAYS(text(), " rank 0: 4 GB/s\n");
  prediction.file_read.bytes_per_second = 5e9;
  EXPECT_SAYS(text(), " rank 0: 4 GB/s\n");
  prediction.file_write.bytes_per_second = 4e9;
  EXPECT_SAYS(text(), " rank 0: 4 GB/s, 85 % of what `zerostep bench machine` measured of the disk\n");
  report.prediction = nullptr;
  const int64_t all = report.cost.device_peak_bytes + report.cost.host_peak_bytes;
  facts.resident_bytes = 3 * all;
  outcome.resident_peak_bytes = 5 * all;
  const std::string sum = " of this process = " + human_bytes(3 * all) + " before the model + " + human_bytes(all) + " planned ",
                    one = human_bytes(all);
  EXPECT_SAYS(text(), "resident       peak " + human_bytes(5 * all) + sum + "+ " + one + " beside the plan\n");
  outcome.resident_peak_bytes = 3 * all;
  EXPECT_SAYS(text(), "resident       peak " + human_bytes(3 * all) + sum + "- " + one + " never held at once\n");
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
