#include <gtest/gtest.h>

#include <filesystem>

#include "tests/launch/support/sweep_place.h"

namespace zerostep::testing {
namespace {

TEST_F(SweepCommand, ARunThatCannotFitIsARowAndTheOthersGoOn) {
  file(R"("grid": {"seed": [1]}, "runs": [{"model.n_layer": 3000, "model.n_embd": 8192, "model.n_head": 8}])");
  const Outcome done = sweep();
  EXPECT_EQ(done.status, 1) << done.err;
  EXPECT_EQ(rows().at("seed=1").at("state"), "done");
  const auto large = rows().at("n_embd=8192,n_head=8,n_layer=3000");
  EXPECT_EQ(large.at("state"), "failed");
  EXPECT_SAYS(large.at("error"), "TiB");
  EXPECT_FALSE(place_.exists("runs/many/n_embd=8192,n_head=8,n_layer=3000"));
}

TEST_F(SweepCommand, HalvingStopsRunsAtTheirRungsAndTheBestIsTheRunAlone) {
  file(
      R"("grid": {"optimizer.params.lr": [1e-6, 1e-4, 1e-3, 5e-3]}, "search": {"metric": "loss", "rungs": [5, 10, 20], "keep": 0.5}, "resources": {"jobs": 2})");
  const Outcome dry = sweep_without_runs({"--set", "run.steps=20", "--dry-run"});
  EXPECT_SAYS(dry.out, "rungs: 4 runs to 5 steps, the best 2 runs to 10 steps, the best 1 run to 20 steps, by loss\n");
  EXPECT_SAYS(dry.out, "; at most ");
  const Outcome done = sweep({"--set", "run.steps=20"});
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "rung 2 of 3, to 10 steps: 2 runs go on: lr=0.001, lr=0.005");
  EXPECT_SAYS(done.out, "the best of the search is lr=0.005: its loss after 20 steps is ");
  EXPECT_EQ(place_.metrics("many/lr=1e-06").size(), 5U);
  EXPECT_EQ(place_.metrics("many/lr=0.0001").size(), 5U);
  EXPECT_EQ(place_.metrics("many/lr=0.001").size(), 10U);
  EXPECT_EQ(place_.metrics("many/lr=0.005").size(), 20U);
  EXPECT_EQ(place_
                .run({"train", place_.path("config.json"), "--set", "run.steps=20", "--set", "run.name=alone", "--set",
                      "optimizer.params.lr=0.005"})
                .status,
            0);
  EXPECT_TRUE(plain(place_.metrics("many/lr=0.005")) == plain(place_.metrics("alone")));
  EXPECT_EQ(count_state("done"), 4U);
  EXPECT_EQ(sweep_without_runs({"--set", "run.steps=20", "--resume"}).status, 0);
  EXPECT_EQ(place_.metrics("many/lr=0.001").size(), 10U);
  file(R"("grid": {"seed": [1, 2]}, "search": {"rungs": [5, 10]})");
  const Outcome wrong = place_.run({"sweep", place_.path("sweep.json")});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_SAYS(wrong.err, "search.rungs end with 10 steps, and seed=1 has 4 (run.steps)");
}

TEST_F(SweepCommand, ASearchNeedsAMetricThatItsRunsHave) {
  const auto said = [&](const std::string& metric, const std::string& set) {
    file(R"("grid": {"seed": [1, 2]}, "search": {"rungs": [2, 4], "metric": ")" + metric + "\"}");
    const Outcome done = place_.run({"sweep", place_.path("sweep.json"), "--set", set});
    EXPECT_EQ(done.status, 2);
    EXPECT_FALSE(place_.exists("runs/many"));
    return done.err;
  };
  EXPECT_SAYS(said("los", "run.steps=4"),
              "search.metric is 'los', which is no column of metrics.csv that could be compared; the nearest is loss");
  EXPECT_SAYS(said("timestamp", "run.steps=4"), "search.metric is 'timestamp'");
  EXPECT_SAYS(said("eval_loss", "run.steps=4"), "evaluates nothing: data.eval is missing");
  EXPECT_SAYS(said("eval_loss", "data.eval=" + place_.path("corpus.txt")),
              "has none in the 2 steps of the first rung: run.eval_interval is 0");
}

// What a sweep's search stands on.
TEST_F(SweepCommand, ARunStopsAfterSomeStepsAndGoesOn) {
  const std::string config = place_.config();
  const std::vector<std::string> run{"train", config, "--set", "run.steps=6", "--set", "run.checkpoint_interval=100"};
  std::vector<std::string> part = run;
  part.insert(part.end(), {"--stop-after", "4"});
  const Outcome stopped = place_.run(part);
  EXPECT_EQ(stopped.status, 0);
  EXPECT_SAYS(stopped.out, "stopped by --stop-after after 4 of 6 steps");
  EXPECT_EQ(place_.metrics("test").size(), 4U);
  part.emplace_back("--resume");
  EXPECT_SAYS(place_.run(part).out, "--stop-after 4 leaves none to take");
  std::vector<std::string> rest = run;
  rest.emplace_back("--resume");
  EXPECT_EQ(place_.run(rest).status, 0);
  EXPECT_EQ(place_.run({"train", config, "--set", "run.steps=6", "--set", "run.name=alone"}).status, 0);
  EXPECT_TRUE(plain(place_.metrics("test")) == plain(place_.metrics("alone")));
}

// A folder that a monitor's block names is all runs': each has a part of its own.
TEST_F(SweepCommand, MonitorsOfRunsDoNotReplaceEachOthersSeries) {
  file(R"("repeat": {"seed": [1, 2]}, "resources": {"jobs": 2})");
  const std::string block = "={\"enabled\": true, \"output_path\": \"" + place_.path("boards") + "\", \"job_name\": \"job\"}";
  ASSERT_EQ(sweep({"--set", "csv_monitor" + block, "--set", "tensorboard" + block}).status, 0);
  for (const char* run : {"seed=1", "seed=2"}) {
    EXPECT_EQ(count(place_.read(std::string("boards/job/") + run + "/Train_Samples_lr.csv"), "\n"), 5U);
    size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(place_.path(std::string("boards/job/") + run)))
      files += entry.path().filename().string().starts_with("events.out.tfevents.") ? 1 : 0;
    EXPECT_EQ(files, 1U);
  }
}

TEST_F(SweepCommand, OptionsChooseAndStopAndRefuse) {
  file(R"("grid": {"step.mode": ["fo", "zo"]}, "repeat": {"seed": [1, 2]})");
  const Outcome dry = place_.run({"sweep", place_.path("sweep.json"), "--dry-run"});
  EXPECT_EQ(dry.status, 0);
  for (const char* run : {"mode=fo,seed=1", "mode=zo,seed=2"}) EXPECT_SAYS(dry.out, run);
  EXPECT_FALSE(place_.exists("runs"));
  EXPECT_EQ(sweep({"--only", "*zo*", "--set", "run.steps=2"}).status, 0);
  EXPECT_EQ(rows().size(), 2U);
  EXPECT_EQ(place_.metrics("many/mode=zo,seed=1").size(), 2U);
  const auto said = [&](const std::vector<std::string>& options) {
    std::vector<std::string> arguments{"sweep", place_.path("sweep.json")};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Outcome done = place_.run(arguments);
    EXPECT_EQ(done.status, 2);
    return done.err;
  };
  EXPECT_SAYS(said({"--only", "*none*"}), "--only '*none*' matches none of the 4 runs");
  EXPECT_SAYS(said({"--executor", "pbs"}), "local or slurm");
  EXPECT_SAYS(said({"--gpus", "0,x"}), "--gpus is '0,x'");
  EXPECT_SAYS(said({"--retry-failed"}), "--resume");
  EXPECT_SAYS(said({}), "holds a sweep already. `");
  const Outcome held = place_.run({"sweep", place_.path("sweep.json"), "--dry-run", "--set", "run.steps=2"});
  EXPECT_EQ(held.status, 0);
  EXPECT_SAYS(held.out, "without --dry-run this command is refused: the folder ");
  EXPECT_SAYS(held.out, "sweep " + place_.path("sweep.json") + " --set run.steps=2 --resume` goes on with it");
  EXPECT_SAYS(said({"--set", "run.steps=3"}),
              "sweep " + place_.path("sweep.json") + " --set run.steps=3 --resume --set run.steps=2` goes on with it");
  EXPECT_SAYS(said({"--set", "data.train=nowhere.txt", "--set", "run.steps=1"}),
              "4 of 4 points cannot run, and nothing was started: every point: ");
  std::filesystem::remove_all(place_.path("runs/many"));
  EXPECT_SAYS(said({"--resume"}), "holds no sweep");
  EXPECT_EQ(sweep({"--set", "optimizer.params.lr=1e30", "--only", "mode=fo*", "--jobs", "1", "--stop-on-failure"}).status, 1);
  EXPECT_EQ(count_state("failed"), 1U);
  EXPECT_EQ(count_state("queued"), 1U);
}

}  // namespace
}  // namespace zerostep::testing
