#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <regex>

#include "experiments/records/metrics_table.h"
#include "tests/launch/support/sweep_place.h"

namespace zerostep::testing {
namespace {

TEST_F(SweepCommand, ARunThatCannotFitIsARowAndTheOthersGoOn) {
  const std::string only_large = R"("runs": [{"model.n_layer": 3000, "model.n_embd": 8192, "model.n_head": 8}])";
  const auto operations = [](const std::string& text) {
    return text.substr(text.find(" at once"), text.rfind("FLOPs") - text.find(" at once"));
  };
  file(R"("grid": {"seed": [1]})");
  const std::string of_the_other = operations(sweep_without_runs({"--dry-run"}).out);
  file(R"("grid": {"seed": [1]}, )" + only_large);
  const std::string dry = sweep_without_runs({"--dry-run"}).out;
  EXPECT_SAYS(dry, "does not fit\n");
  EXPECT_SAYS(dry, "2 runs, 1 of which would fail, memory of each of 1 rank; ");
  EXPECT_EQ(operations(dry), of_the_other);
  EXPECT_SAYS(dry, "would fail:\n  n_embd=8192,n_head=8,n_layer=3000: ");
  const Outcome done = sweep();
  EXPECT_EQ(done.status, 1) << done.err;
  EXPECT_EQ(rows().at("seed=1").at("state"), "done");
  const auto large = rows().at("n_embd=8192,n_head=8,n_layer=3000");
  EXPECT_EQ(large.at("state"), "failed");
  EXPECT_TRUE(
      std::regex_search(large.at("error"), std::regex("a rank needs [0-9.]+ TiB at the peak .*; there are [0-9.]+ [MGT]iB \\(free memory "
                                                      "of this machine\\): [0-9.]+ TiB are missing\\. What helps: ")))
      << large.at("error");
  EXPECT_FALSE(place_.exists("runs/many/n_embd=8192,n_head=8,n_layer=3000"));
  const auto tells = [&](const std::string& text) {
    EXPECT_SAYS(text, "n_layer=3000");
    EXPECT_SAYS(text, "TiB are missing");
  };
  for (const char* name : {"report.html", "summary.csv", "summary.txt"}) tells(place_.read(std::string("runs/many/") + name));
  EXPECT_SAYS(place_.read("runs/many/report.html"), "<p class=\"pale\">2 runs, ");
  const std::string list = place_.run({"runs", "list", place_.path("runs")}).out;
  EXPECT_SAYS(list, "n_embd=8192,n_head=8,n_layer=3000  failed  0 ");
  EXPECT_SAYS(list, "2 runs, ");
  // A limit that the file gives is one too; where nothing else is there the report is of this run alone.
  std::filesystem::remove_all(place_.path("runs"));
  file(only_large);
  const Outcome alone = sweep({"--set", "run.device_memory=1000000000"});
  EXPECT_EQ(alone.status, 1) << alone.err;
  EXPECT_TRUE(std::regex_search(
      rows().begin()->second.at("error"),
      std::regex("run.device_memory=1000000000: a rank needs .*; there are 954 MiB \\(run.device_memory\\): [0-9.]+ TiB are missing")))
      << rows().begin()->second.at("error");
  tells(place_.read("runs/many/report.html"));
  tells(place_.run({"runs", "list", place_.path("runs/many"), "--json"}).out);
}

// Of configurations, of files, and of what texts hold; a dry run says the same.
TEST_F(SweepCommand, AllThatIsWrongWithAllPointsIsSaidInOneMessage) {
  place_.write("short.txt", "abc");
  const std::string text = place_.path("short.txt");
  file(R"("runs": [{"seed": 1}, {"train_micro_batch_size_per_gpu": 3}, {"model.path": "no/model", "data.eval": "no/other.txt"},
                   {"data.train": "no/train.txt", "data.eval": "no/eval.txt"},
                   {"data.tokenizer": "no/tokenizer.json", "data.eval": "no/eval.txt"}, {"data.train": ")" +
       text + R"("}, {"seed": 2, "data.eval": ")" + text + "\"}]");
  for (const bool is_dry : {true, false}) {
    const Outcome wrong = sweep_without_runs(is_dry ? std::vector<std::string>{"--dry-run"} : std::vector<std::string>());
    EXPECT_EQ(wrong.status, 2);
    EXPECT_SAYS(wrong.err, "6 of 7 points cannot run, and nothing was started:\n");
    EXPECT_SAYS(wrong.err, "\n  train_micro_batch_size_per_gpu=3: ");
    EXPECT_EQ(count(wrong.err, "\n  eval=no/other.txt,path=no/model: "), 2U) << wrong.err;
    EXPECT_SAYS(wrong.err, "data.eval: 'no/other.txt'");
    EXPECT_SAYS(wrong.err, "data.train: 'no/train.txt'");
    EXPECT_SAYS(wrong.err, "data.eval: 'no/eval.txt'");
    EXPECT_SAYS(wrong.err, "data.tokenizer: ");
    EXPECT_EQ(count(wrong.err, "short.txt' "), 2U) << wrong.err;
    EXPECT_EQ(count(wrong.err, "  seed=1"), 0U) << wrong.err;
    EXPECT_FALSE(place_.exists("runs"));
  }
  // A text that is refused alone, before anything starts.
  file(R"("grid": {"seed": [1, 2]})");
  for (const bool is_dry : {true, false}) {
    std::vector<std::string> options{"--set", "data.train=" + place_.path("short.txt")};
    if (is_dry) options.emplace_back("--dry-run");
    const Outcome refused = sweep_without_runs(options);
    EXPECT_EQ(refused.status, 2);
    EXPECT_SAYS(refused.err, "2 of 2 points cannot run, and nothing was started: every point: ");
    EXPECT_FALSE(place_.exists("runs/many"));
  }
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
  // Their text is tokenized once, before the first one starts.
  std::vector<std::filesystem::path> tokens;
  for (const auto& entry : std::filesystem::directory_iterator(place_.path("runs/.cache")))
    if (entry.path().extension() == ".tokens") tokens.push_back(entry.path());
  ASSERT_EQ(tokens.size(), 1U);
  struct stat made {};
  ASSERT_EQ(::stat(tokens[0].c_str(), &made), 0);
  const std::string journal = place_.read("runs/many/journal.jsonl");
  const size_t first_start = journal.rfind('\n', journal.find("\"event\":\"start\"")) + 1;
  const double started = seconds_of_timestamp(journal.substr(first_start + std::string_view("{\"time\":\"").size(), 24));
  EXPECT_LE(static_cast<double>(made.st_mtim.tv_sec) + 1e-9 * static_cast<double>(made.st_mtim.tv_nsec), started + 0.001);
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
