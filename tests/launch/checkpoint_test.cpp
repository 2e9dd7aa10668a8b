#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"

// Checkpoints as a user meets them: --resume, signals, inspect, export, eval and generate, and what is said when something is wrong.
namespace zerostep::testing {
namespace {

using nlohmann::json;

class CheckpointRun : public ::testing::Test {
 protected:
  std::vector<std::string> column(const std::string& run, const std::string& name) const {
    std::vector<std::string> out;
    for (const auto& row : place_.metrics(run)) out.push_back(row.at(name));
    return out;
  }
  Outcome train(const std::vector<std::string>& set, int ranks = 1, bool resume = false, const std::string& file = "config.json") const {
    std::vector<std::string> arguments{"train", place_.path(file)};
    if (resume) arguments.push_back("--resume");
    for (const std::string& s : set) arguments.insert(arguments.end(), {"--set", s});
    return place_.run(arguments, {.ranks = ranks});
  }
  std::string latest(const std::string& run = "test") const {
    std::string name = place_.read("runs/" + run + "/checkpoints/latest");
    name.pop_back();
    return "runs/" + run + "/checkpoints/" + name;
  }
  Workplace place_;
};

TEST_F(CheckpointRun, GoesOnWhereItStoppedWithoutGapOrRepeat) {
  for (const char* mode : {"\"step\": {\"mode\": \"fo\"}", "\"step\": {\"mode\": \"zo\", \"queries\": 2}"}) {
    place_.config(std::string("\"zero_optimization\": {\"stage\": 3}, \"csv_monitor\": {\"enabled\": true, \"output_path\": \"") +
                  place_.path("csv") + "\", \"job_name\": \"j\"}, " + mode);
    const std::string interval = "run.checkpoint_interval=3";
    std::filesystem::remove_all(place_.path("runs"));
    std::filesystem::remove_all(place_.path("csv"));
    ASSERT_EQ(train({interval, "run.steps=8", "run.name=whole"}, 2).status, 0);
    const std::string whole_csv = place_.read("csv/j/Train_Samples_train_loss.csv");
    std::filesystem::remove_all(place_.path("csv"));
    const Outcome first = train({interval, "run.steps=4"}, 2);
    ASSERT_EQ(first.status, 0) << first.err;
    EXPECT_SAYS(first.out, "checkpoint step_00000003");
    EXPECT_SAYS(first.out, "checkpoint step_00000004");
    EXPECT_EQ(latest(), "runs/test/checkpoints/step_00000004");
    // As after a kill: steps that no checkpoint has.
    std::ofstream(place_.path("runs/test/metrics.csv"), std::ios::app)
        << "2026-01-01T00:00:00.000Z,0,4,fo,full,,,,,,1.0\n2026-01-01T00:00:0";
    const Outcome second = train({interval, "run.steps=8"}, 2, true);
    ASSERT_EQ(second.status, 0) << second.err;
    EXPECT_SAYS(second.out, "goes on after step 4");
    EXPECT_SAYS(first.out, "4 steps done in ");
    // Four rows of its own, whose mean time is what it says of a step.
    EXPECT_SAYS(second.out, "8 steps done, 5 to 8 here, in ");
    const std::vector<std::string> times = column("test", "step_seconds");
    double milliseconds = 0;
    for (size_t s = 4; s < 8; ++s) milliseconds += 1e3 * std::stod(times.at(s)) / 4;
    const size_t speed = second.out.find("FLOP/s, ");
    ASSERT_NE(speed, std::string::npos) << second.out;
    EXPECT_NEAR(std::stod(second.out.substr(speed + 8)), milliseconds, 0.06) << second.out;
    EXPECT_EQ(column("test", "loss"), column("whole", "loss"));
    EXPECT_EQ(column("test", "grad_norm"), column("whole", "grad_norm"));
    const std::vector<std::string> steps = column("test", "step");
    for (size_t s = 0; s < steps.size(); ++s) EXPECT_EQ(steps[s], std::to_string(s));
    EXPECT_EQ(place_.read("csv/j/Train_Samples_train_loss.csv"), whole_csv);
    EXPECT_SAYS(place_.read("runs/test/log.txt"), "goes on after step 4");
    if (place_.exists("runs/whole/zo_log.jsonl")) {
      EXPECT_EQ(place_.read("runs/test/zo_log.jsonl"), place_.read("runs/whole/zo_log.jsonl"));
    }
    // The plan knows the staging.
    const json plan = json::parse(place_.read("runs/test/plan.json"));
    EXPECT_EQ(plan["host_peak_bytes"].get<int64_t>(), std::stoll(place_.metrics("test").back().at("host_peak_bytes")));
    EXPECT_GT(plan["host_peak_bytes"].get<int64_t>(), 4 * 34720 / 2);
    // A finished run has nothing to do.
    const std::string before = place_.read("runs/test/metrics.csv");
    const Outcome finished = train({interval, "run.steps=8"}, 2, true);
    EXPECT_EQ(finished.status, 0) << finished.err;
    EXPECT_SAYS(finished.out, "finished");
    EXPECT_EQ(place_.read("runs/test/metrics.csv"), before);
  }
}

// Of three ranks the first has the fewest pieces here, and so not the longest file.
TEST_F(CheckpointRun, HostMemoryIsPlannedForTheRankWithTheLargestFile) {
  for (const char* stage : {"1", "3"}) {
    place_.config(std::string("\"zero_optimization\": {\"stage\": ") + stage + "}");
    std::filesystem::remove_all(place_.path("runs"));
    const Outcome done = train({"run.checkpoint_interval=1", "run.steps=1", "train_batch_size=6"}, 3);
    ASSERT_EQ(done.status, 0) << done.err;
    const json plan = json::parse(place_.read("runs/test/plan.json"));
    EXPECT_EQ(plan["host_peak_bytes"].get<int64_t>(), std::stoll(place_.metrics("test").back().at("host_peak_bytes"))) << stage;
  }
}

TEST_F(CheckpointRun, ARunThatKeepsNothingSaysSoAndHowToKeepIt) {
  place_.config();
  const Outcome forgetful = train({}, 1);
  ASSERT_EQ(forgetful.status, 0) << forgetful.err;
  EXPECT_SAYS(forgetful.out, "weights        are not kept when the run ends: run.checkpoint_interval N");
  const Outcome nowhere = train({"run.steps=8"}, 1, true);
  EXPECT_EQ(nowhere.status, 2);
  for (const char* part : {"no latest checkpoint", "run.checkpoint_interval", "--overwrite"}) EXPECT_SAYS(nowhere.err, part);
  const Outcome again = train({"run.steps=8"}, 1);
  EXPECT_EQ(again.status, 2);
  EXPECT_SAYS(again.err, "--resume cannot go on with it: it has no checkpoint (run.checkpoint_interval writes some)");
  // The folder of a run is no model; its checkpoints are.
  const auto generate = [&] { return place_.run({"generate", "--model", place_.path("runs/test"), "--prompt", "a"}); };
  const Outcome empty = generate();
  EXPECT_EQ(empty.status, 2);
  EXPECT_SAYS(empty.err, "runs/test: is the folder of a run, not a model, and it has no checkpoint: run.checkpoint_interval");
  for (const std::vector<std::string>& keeps :
       {std::vector<std::string>{"--set", "run.checkpoint_interval=2"}, {"--save-model", place_.path("model")}}) {
    std::vector<std::string> arguments{"train", place_.path("config.json"), "--overwrite"};
    arguments.insert(arguments.end(), keeps.begin(), keeps.end());
    const Outcome kept = place_.run(arguments);
    ASSERT_EQ(kept.status, 0) << kept.err;
    EXPECT_EQ(kept.out.find("\nweights "), std::string::npos) << kept.out;
    if (keeps[0] != "--set") continue;
    EXPECT_SAYS(generate().err, "is the folder of a run, not a model: name one of its checkpoints, as " +
                                    place_.path("runs/test/checkpoints/step_00000004"));
    const Outcome without = train({"run.steps=6", "run.checkpoint_interval=0"}, 1, true);
    ASSERT_EQ(without.status, 0) << without.err;
    EXPECT_SAYS(without.out, "goes on without checkpoints: run.checkpoint_interval is 0; it was 2 in the checkpoint");
  }
}

TEST_F(CheckpointRun, AnOlderCheckpointBeginsABranchAndLaterOnesStandAside) {
  place_.config();
  const std::string interval = "run.checkpoint_interval=2";
  ASSERT_EQ(train({interval, "run.steps=6"}).status, 0);
  const std::vector<std::string> whole = column("test", "loss");
  const std::string older = place_.path("runs/test/checkpoints/step_00000004");
  const auto resume = [&](const std::string& steps) {
    return place_.run({"train", place_.path("config.json"), "--resume", older, "--set", interval, "--set", "run.steps=" + steps});
  };
  const Outcome again = resume("8");
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_TRUE(place_.exists("runs/test/checkpoints/abandoned-step_00000006"));
  EXPECT_EQ(latest(), "runs/test/checkpoints/step_00000008");
  const std::vector<std::string> losses = column("test", "loss");
  ASSERT_EQ(losses.size(), 8u);
  for (size_t s = 0; s < whole.size(); ++s) EXPECT_EQ(losses[s], whole[s]);
  // Into the folder of another run that has checkpoints it does not go.
  ASSERT_EQ(train({interval, "run.steps=2", "run.name=other"}).status, 0);
  const Outcome foreign = place_.run({"train", place_.path("config.json"), "--resume", place_.path(latest()), "--set", interval, "--set",
                                      "run.name=other", "--set", "run.steps=9"});
  EXPECT_EQ(foreign.status, 2);
  EXPECT_SAYS(foreign.err, "runs/other holds a run of 2 steps");
  EXPECT_EQ(place_.metrics("other").size(), 2u);
  // Into a new one it does.
  const Outcome moved = place_.run({"train", place_.path("config.json"), "--resume", place_.path(latest()), "--set", interval, "--set",
                                    "run.name=moved", "--set", "run.steps=9"});
  ASSERT_EQ(moved.status, 0) << moved.err;
  EXPECT_EQ(column("moved", "step"), std::vector<std::string>{"8"});
}

TEST_F(CheckpointRun, WhatAKillLeftOfTheFirstCheckpointIsNoCheckpoint) {
  place_.config();
  std::filesystem::create_directories(place_.path("runs/test/checkpoints/.partial-step_00000002"));
  const Outcome done = train({"run.checkpoint_interval=2"});
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_FALSE(place_.exists("runs/test/checkpoints/.partial-step_00000002"));
  EXPECT_EQ(latest(), "runs/test/checkpoints/step_00000004");
}

TEST_F(CheckpointRun, SignalsSaveAndTheRunGoesOn) {
  place_.config();
  ASSERT_EQ(train({"run.steps=40", "run.name=whole"}).status, 0);
  const std::vector<std::string> expected = column("whole", "loss");
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    std::filesystem::remove_all(place_.path("runs/test"));
    const pid_t pid = place_.start(
        place_.command({"train", place_.path("config.json"), "--set", "run.steps=100000", "--set", "run.checkpoint_interval=100000"}, 1));
    ASSERT_TRUE(place_.wait_for_rows("test", 3, pid)) << place_.finish(pid, 0).err;
    ::kill(pid, signal);
    const Outcome stopped = place_.finish(pid);
    EXPECT_EQ(stopped.status, signal == SIGUSR1 ? 0 : 128 + signal) << stopped.err;
    const size_t steps = place_.metrics("test").size();
    const Outcome resumed = train({"run.steps=" + std::to_string(steps + 3), "run.checkpoint_interval=100000"}, 1, true);
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    const std::vector<std::string> losses = column("test", "loss");
    EXPECT_EQ(losses.size(), steps + 3);
    for (size_t s = 0; s < std::min(losses.size(), expected.size()); ++s) EXPECT_EQ(losses[s], expected[s]) << "step " << s;
  }
}

TEST_F(CheckpointRun, WhatHasChangedIsNamed) {
  place_.config();
  ASSERT_EQ(train({"run.checkpoint_interval=2", "run.steps=2"}).status, 0);
  const std::string before = place_.read("runs/test/metrics.csv"), log = place_.read("runs/test/log.txt");
  const auto resume = [&](std::vector<std::string> set) {
    set.insert(set.end(), {"run.checkpoint_interval=2", "run.steps=4"});
    return train(set, 1, true);
  };
  place_.write("other.txt", std::string(4000, 'a') + "\n");
  struct Case {
    std::string set, says;
    bool harmless;
  };
  for (const Case& c :
       {Case{"model.n_embd=48", "n_embd is 48 here and 32 in the checkpoint", false}, Case{"model.n_layer=3", "n_layer", false},
        Case{"optimizer.type=Lion", "kept 2 values", false}, Case{"optimizer.type=MuDaMW", "optimizer.type is", false},
        Case{"seed=11", "seed is 11", true}, Case{"step.mode=zo", "step.mode is \"zo\" here and \"fo\" in the checkpoint; ", true},
        Case{"data.train=\"" + place_.path("other.txt") + "\"", "other.txt\" here and ", true},
        Case{"data.max_samples=7", "data.max_samples is 7 here and 0 in the checkpoint. Going on", true},
        Case{"train_batch_size=8", "train_batch_size is 8", true}}) {
    const Outcome refused = resume({c.set});
    EXPECT_EQ(refused.status, 2) << c.set;
    EXPECT_SAYS(refused.err, c.says);
    EXPECT_EQ(refused.err.find("resume_anyway") != std::string::npos, c.harmless) << refused.err;
    EXPECT_EQ(place_.read("runs/test/metrics.csv"), before);
    EXPECT_EQ(place_.read("runs/test/log.txt"), log);
    if (!c.harmless) {
      EXPECT_EQ(resume({c.set, "run.resume_anyway=true"}).status, 2) << c.set;
    }
  }
  const Outcome anyway = resume({"seed=11", "run.resume_anyway=true", "optimizer.params.lr=0.002"});
  ASSERT_EQ(anyway.status, 0) << anyway.err;
  EXPECT_SAYS(anyway.out, "resumed anyway: seed is 11 here and");
  EXPECT_SAYS(anyway.out, "goes on with optimizer.params.lr 0.002");
  EXPECT_EQ(column("test", "step").size(), 4u);
}

TEST_F(CheckpointRun, NothingToResumeIsAnError) {
  place_.config();
  const Outcome none = train({"run.checkpoint_interval=2"}, 1, true);
  EXPECT_EQ(none.status, 2);
  EXPECT_SAYS(none.err, "latest");
  EXPECT_FALSE(place_.exists("runs/test/metrics.csv"));
  const Outcome nowhere = place_.run({"train", place_.path("config.json"), "--resume", place_.path("nowhere")});
  EXPECT_EQ(nowhere.status, 2);
  EXPECT_SAYS(nowhere.err, "nowhere: there is no such checkpoint");
}

TEST_F(CheckpointRun, InspectExportEvalAndGenerateReadIt) {
  place_.config("\"zero_optimization\": {\"stage\": 3}");
  const std::string eval_data = "data.eval=\"" + place_.path("corpus.txt") + "\"";
  ASSERT_EQ(train({"run.checkpoint_interval=4", eval_data}, 2).status, 0);
  const std::string checkpoint = place_.path(latest());
  const Outcome shown = place_.run({"inspect", "checkpoint", checkpoint});
  ASSERT_EQ(shown.status, 0) << shown.err;
  for (const char* part : {"4 steps done", "2 ranks at stage 3", "n_embd 32", "every checksum verified", "rank_00001.safetensors",
                           "2 values of optimizer state"})
    EXPECT_SAYS(shown.out, part);
  const Outcome exported = place_.run({"export", checkpoint, place_.path("model")});
  ASSERT_EQ(exported.status, 0) << exported.err;
  const double trained = std::stod(place_.metrics("test").back().at("eval_loss"));
  // The file that names the newest stands for it, wherever a checkpoint is named.
  const std::string newest = place_.path("runs/test/checkpoints/latest");
  EXPECT_EQ(place_.run({"inspect", "checkpoint", newest}).out, shown.out);
  const Outcome exported_newest = place_.run({"export", newest, place_.path("newest")});
  ASSERT_EQ(exported_newest.status, 0) << exported_newest.err;
  EXPECT_SAYS(exported_newest.out, "step_00000004");
  std::filesystem::create_symlink("loop", place_.path("loop"));
  const Outcome loop = place_.run({"export", place_.path("loop"), place_.path("none")});
  EXPECT_EQ(loop.status, 2);
  EXPECT_SAYS(loop.err, "loop: is no checkpoint");
  EXPECT_EQ(place_.read("newest/model.safetensors"), place_.read("model/model.safetensors"));
  const Outcome resumed = place_.run({"train", place_.path("config.json"), "--resume", newest}, {.ranks = 2});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_SAYS(resumed.out, "step_00000004 has 4 of 4 steps");
  for (const std::string& from : {checkpoint, newest, place_.path("model")}) {
    const Outcome evaluated = place_.run({"eval", place_.path("config.json"), "--set", eval_data, "--checkpoint", from, "--json"});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_NEAR(json::parse(evaluated.out)["loss"].get<double>() / trained, 1, 1e-6);
    const Outcome text = place_.run({"generate", "--model", from, "--prompt", "ab", "--tokens", "5", "--temperature", "0"});
    EXPECT_EQ(text.status, 0) << text.err;
    EXPECT_SAYS(text.out, "ab");
  }
  // Any damage is named, by every command.
  std::string bytes = place_.read(latest() + "/rank_00001.safetensors");
  bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 1);
  place_.write(latest() + "/rank_00001.safetensors", bytes);
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"inspect", "checkpoint", checkpoint},
                                                    {"export", checkpoint, place_.path("again")},
                                                    {"generate", "--model", checkpoint, "--prompt", "a"},
                                                    {"train", place_.path("config.json"), "--resume", "--set", "run.steps=9"}}) {
    const Outcome refused = place_.run(arguments);
    EXPECT_EQ(refused.status, 2) << arguments[0];
    EXPECT_SAYS(refused.err, "rank_00001.safetensors");
  }
  EXPECT_FALSE(place_.exists("again/model.safetensors"));
}

TEST_F(CheckpointRun, TheBestStaysBesideTheNewest) {
  place_.config();
  const std::string eval_data = "data.eval=\"" + place_.path("corpus.txt") + "\"";
  // A rate so high that the loss rises again after a few steps.
  const Outcome done = train(
      {eval_data, "run.steps=12", "run.eval_interval=1", "run.keep_best=true", "run.checkpoint_interval=1", "optimizer.params.lr=0.3"});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto rows = place_.metrics("test");
  size_t best = 0;
  for (size_t s = 0; s < rows.size(); ++s)
    if (std::stod(rows[s].at("eval_loss")) < std::stod(rows[best].at("eval_loss"))) best = s;
  ASSERT_LT(best, 9u) << "the loss kept falling";
  std::string name = place_.read("runs/test/checkpoints/best");
  name.pop_back();
  char expected[32];
  std::snprintf(expected, sizeof expected, "step_%08zu", best + 1);
  EXPECT_EQ(name, expected);
  const Outcome evaluated = place_.run(
      {"eval", place_.path("config.json"), "--set", eval_data, "--checkpoint", place_.path("runs/test/checkpoints/" + name), "--json"});
  EXPECT_NEAR(json::parse(evaluated.out)["loss"].get<double>() / std::stod(rows[best].at("eval_loss")), 1, 1e-6);
  size_t kept = 0;
  for (const auto& entry : std::filesystem::directory_iterator(place_.path("runs/test/checkpoints"))) kept += entry.is_directory() ? 1 : 0;
  EXPECT_EQ(kept, 3u);
}

TEST_F(CheckpointRun, AFileThatMayNotGrowEndsTheRunOrIsWarnedOf) {
  place_.config();
  // Room for the metrics and the log, not for a checkpoint.
  const auto limited = [&](const std::string& on_error) {
    std::filesystem::remove_all(place_.path("runs"));
    return place_.run_command({"bash", "-c",
                               "trap '' XFSZ; ulimit -f 100; exec \"$ZEROSTEP_BINARY\" train " + place_.path("config.json") +
                                   " --set run.checkpoint_interval=2 --set run.steps=6 --set checkpoint.on_error=" + on_error});
  };
  const Outcome ended = limited("end");
  EXPECT_EQ(ended.status, 1) << ended.err;
  EXPECT_SAYS(ended.err, "space");
  EXPECT_SAYS(ended.err, "The run has no checkpoint before it");
  EXPECT_LT(place_.metrics("test").size(), 6u);
  const Outcome goes_on = limited("continue");
  EXPECT_EQ(goes_on.status, 0) << goes_on.err;
  EXPECT_SAYS(goes_on.err, "the run goes on");
  EXPECT_EQ(place_.metrics("test").size(), 6u);
}

TEST_F(CheckpointRun, ARankThatCannotWriteDoesNotPartTheRanks) {
  place_.config();
  ASSERT_EQ(train({"run.steps=1"}).status, 0) << "either rank may be the one that writes the tokens: they are there already";
  const auto limited = [&](const std::string& on_error, int interval) {
    std::filesystem::remove_all(place_.path("runs/test"));
    const std::string script = "if [ $OMPI_COMM_WORLD_RANK = 1 ]; then trap '' XFSZ; ulimit -f 20; fi; exec \"$ZEROSTEP_BINARY\" train " +
                               place_.path("config.json") + " --set run.checkpoint_interval=" + std::to_string(interval) +
                               " --set run.steps=6 --set checkpoint.on_error=" + on_error;
    return place_.run_command({"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", "2", "bash", "-c", script});
  };
  const Outcome goes_on = limited("continue", 2);
  EXPECT_EQ(goes_on.status, 0) << goes_on.err;
  EXPECT_SAYS(goes_on.err, "the run goes on");
  EXPECT_SAYS(goes_on.err, "space");
  EXPECT_EQ(place_.metrics("test").size(), 6u);
  EXPECT_FALSE(place_.exists("runs/test/checkpoints/latest"));
  const Outcome resumed = train({"run.steps=8"}, 2, true);
  EXPECT_EQ(resumed.status, 2) << "there is no checkpoint: " << resumed.err;
  // Rank 1 learns first that its file is not written; rank 0 may have begun another checkpoint, which rank 1 will not write.
  const Outcome ended = limited("end", 1);
  EXPECT_EQ(ended.status, 1) << ended.err;
  EXPECT_SAYS(ended.err, "space");
  EXPECT_LT(place_.metrics("test").size(), 6u);
}

TEST_F(CheckpointRun, ALossThatIsNoNumberIsNoBest) {
  place_.config("\"step\": {\"mode\": \"zo\", \"queries\": 2}");
  const std::string eval_data = "data.eval=\"" + place_.path("corpus.txt") + "\"";
  const Outcome done = train(
      {eval_data, "run.steps=3", "run.eval_interval=1", "run.keep_best=true", "run.checkpoint_interval=1", "optimizer.params.lr=1e30"});
  ASSERT_EQ(done.status, 0) << done.err;
  for (const std::string& loss : column("test", "eval_loss")) EXPECT_FALSE(std::isfinite(std::stod(loss))) << loss;
  EXPECT_FALSE(place_.exists("runs/test/checkpoints/best"));
  EXPECT_EQ(latest(), "runs/test/checkpoints/step_00000003");
}

// Matrices that are assigned whole to ranks have states of other sizes than a shard's.
TEST_F(CheckpointRun, ThePlanKnowsWhatIsStagedOfAssignedMatrices) {
  place_.config("\"zero_optimization\": {\"stage\": 2}");
  const Outcome done = train({"optimizer.type=Muon", "optimizer.params.lr=0.01", "run.checkpoint_interval=2", "run.steps=4"}, 2);
  ASSERT_EQ(done.status, 0) << done.err;
  const json plan = json::parse(place_.read("runs/test/plan.json"));
  EXPECT_EQ(plan["host_peak_bytes"].get<int64_t>(), std::stoll(place_.metrics("test").back().at("host_peak_bytes")));
}

}  // namespace
}  // namespace zerostep::testing
