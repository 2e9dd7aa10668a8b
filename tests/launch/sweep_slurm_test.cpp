#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tests/launch/support/sweep_place.h"

namespace zerostep::testing {
namespace {

// Slurm's commands as scripts of this machine (support/fake_slurm/); launch/slurm_check.sh does the same with Slurm itself.
class SweepUnderSlurm : public SweepCommand {
 protected:
  How how() {
    const std::string scripts = std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/tests/launch/support/fake_slurm";
    std::filesystem::create_directories(place_.path("slurm"));
    return {.environment = {{"PATH", scripts + ":" + std::getenv("PATH")}, {"FAKE_SLURM", place_.path("slurm")}}, .timeout_seconds = 120};
  }
};

TEST_F(SweepUnderSlurm, RunsAreTasksOfAnArray) {
  file(
      R"("grid": {"step.mode": ["fo", "zo"]}, "repeat": {"seed": [1, 2]}, "runs": [{"optimizer.params.lr": 1e30}], "resources": {"jobs": 2, "executor": "slurm"})");
  const Outcome done = place_.run_command(command({}), how());
  EXPECT_EQ(done.status, 1) << done.err;
  EXPECT_SAYS(done.out, "6 runs handed to Slurm as job 1");
  EXPECT_EQ(count_state("done"), 4U);
  EXPECT_EQ(count_state("failed"), 2U);
  EXPECT_EQ(rows().at("mode=fo,seed=1").at("device").substr(0, 8), "slurm:1_");
  for (const auto& [run, row] : rows()) EXPECT_NE(row.at("started"), "") << run;  // however short
  EXPECT_EQ(place_.run({"train", place_.path("config.json"), "--set", "run.name=alone", "--set", "seed=2", "--set", "step.mode=zo"}).status,
            0);
  EXPECT_TRUE(plain(place_.metrics("many/mode=zo,seed=2")) == plain(place_.metrics("alone")));
}

TEST_F(SweepUnderSlurm, AnInterruptSavesCancelsWhatWaitsAndResumeGoesOn) {
  file(R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2, "executor": "slurm"})");
  const HeldSweep held = start_and_hold({"--set", "run.checkpoint_interval=100000"}, 1, how());
  ASSERT_EQ(held.runs.size(), 2U);
  interrupt(held);
  EXPECT_EQ(place_.finish(held.sweep).status, 130);
  EXPECT_EQ(count_state("interrupted"), 3U);
  EXPECT_FALSE(place_.exists("runs/many/seed=3/metrics.csv"));
  EXPECT_LT(place_.metrics("many/seed=1").size(), held.steps);
  std::vector<std::string> options = held.options;
  options.emplace_back("--resume");
  EXPECT_EQ(place_.run_command(command(options), how()).status, 0);
  EXPECT_EQ(count_state("done"), 3U);
  const std::string steps = "run.steps=" + std::to_string(held.steps);
  EXPECT_EQ(place_.run({"train", place_.path("config.json"), "--set", steps, "--set", "run.name=alone", "--set", "seed=1"}).status, 0);
  EXPECT_TRUE(plain(place_.metrics("many/seed=1")) == plain(place_.metrics("alone")));
}

TEST_F(SweepUnderSlurm, WithoutSbatchOneErrorSaysSo) {
  file(R"("repeat": {"seed": [1]}, "resources": {"executor": "slurm"})");
  const Outcome done = place_.run({"sweep", place_.path("sweep.json")}, {.environment = {{"PATH", "/nowhere"}}});
  EXPECT_EQ(done.status, 1);
  EXPECT_SAYS(done.err, "sbatch cannot be started: No such file or directory");
}

}  // namespace
}  // namespace zerostep::testing
