#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <iterator>
#include <sstream>

#include "tests/launch/support/sweep_place.h"

namespace zerostep::testing {
namespace {

// A sweep that is stopped, killed or changed, and goes on.

// Twelve runs, one of which fails; one is killed, then the sweep itself; what it left goes on.
TEST_F(SweepCommand, SurvivesKillsAndEachRunIsTheRunAlone) {
  file(R"("grid": {"step.mode": ["fo", "zo"], "seed": [1, 2, 3, 4, 5]},
          "runs": [{"seed": 6, "step.mode": "fo"}, {"optimizer.params.lr": 1e30, "step.mode": "fo"}], "resources": {"jobs": 2})");
  // One run is killed, and another one is held until the sweep is killed, which does not end before that.
  const HeldSweep held = start_and_hold({"--set", "run.checkpoint_interval=10"}, 12);
  ASSERT_EQ(held.runs.size(), 2U);
  const std::vector<std::string>& options = held.options;
  const std::string steps = "run.steps=" + std::to_string(held.steps);
  const auto& [victim, process] = *held.runs.begin();
  ::kill(process, SIGKILL);
  ASSERT_TRUE(comes([&, run = victim] { return rows()[run]["state"] == "killed"; }));
  EXPECT_SAYS(rows()[victim]["error"], "killed by SIGKILL from outside");
  ASSERT_TRUE(comes([&] { return count_state("done") >= 2; }));
  ::kill(held.sweep, SIGKILL);
  EXPECT_EQ(place_.finish(held.sweep).status, 128 + SIGKILL);
  ASSERT_TRUE(comes([&] {
    const auto now = rows();
    return std::all_of(now.begin(), now.end(), [&](const auto& row) { return process_of(row.first) == 0; });
  }));
  const std::string journal = place_.read("runs/many/journal.jsonl");
  std::map<std::string, std::string> finished;
  for (const auto& [run, row] : rows())
    if (row.at("state") == "done") finished[run] = place_.read("runs/many/" + run + "/metrics.csv");

  EXPECT_EQ(sweep_without_runs(options).status, 2);  // it holds a sweep already
  std::vector<std::string> resumed = options;
  resumed.emplace_back("--resume");
  const Outcome done = sweep(resumed);
  EXPECT_EQ(done.status, 1) << done.out << done.err;
  EXPECT_EQ(count_state("done"), 11U);
  EXPECT_EQ(count_state("failed"), 1U);
  EXPECT_TRUE(place_.read("runs/many/journal.jsonl").starts_with(journal.substr(0, journal.rfind('\n') + 1)));
  for (const auto& [run, metrics] : finished) EXPECT_EQ(place_.read("runs/many/" + run + "/metrics.csv"), metrics) << run;
  // The runs alone, two beside each other.
  std::vector<std::pair<std::string, pid_t>> alone;
  const auto compare = [&] {
    for (const auto& [run, pid] : alone) {
      EXPECT_EQ(place_.finish(pid).status, 0);
      EXPECT_TRUE(plain(place_.metrics("many/" + run)) == plain(place_.metrics("alone/" + run))) << run;
    }
    alone.clear();
  };
  for (const auto& [run, row] : rows()) {
    if (row.at("state") == "failed") {
      EXPECT_EQ(run, "lr=1e+30,mode=fo");
      EXPECT_SAYS(row.at("error"), "nan");
      EXPECT_EQ(row.at("exit"), "1");
      continue;
    }
    std::vector<std::string> arguments{program(), "train", place_.path("config.json")};
    for (const std::string& set :
         {steps, "run.output_dir=" + place_.path("runs/alone"), "run.name=\"" + run + "\"", "data.cache=" + place_.path("runs/.cache"),
          "seed=" + row.at("seed"), "step.mode=" + row.at("step.mode")})
      arguments.insert(arguments.end(), {"--set", set});
    alone.emplace_back(run, place_.start(arguments));
    if (alone.size() == 2) compare();
  }
  compare();
}

TEST_F(SweepCommand, AnInterruptSavesAndResumeGoesOn) {
  file(R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2})");
  const HeldSweep held = start_and_hold({"--set", "run.checkpoint_interval=100000"}, 1);
  ASSERT_EQ(held.runs.size(), 2U);
  const std::vector<std::string>& options = held.options;
  interrupt(held);
  const Outcome stopped = place_.finish(held.sweep);
  EXPECT_EQ(stopped.status, 130);
  const std::string set = fmt::format(" --set run.steps={} --set run.checkpoint_interval=100000 --resume", held.steps);
  EXPECT_SAYS(stopped.out, "sweep " + place_.path("sweep.json") + set + "` goes on");
  EXPECT_SAYS(stopped.out, "interrupted: the runs that go on are asked to save and stop; ");
  std::vector<std::string> dry = options;
  dry.insert(dry.end(), {"--resume", "--dry-run"});
  const std::string left = sweep_without_runs(dry).out;
  EXPECT_SAYS(left, "3 of 3 runs are left to be started or to go on");
  EXPECT_EQ(count_state("interrupted"), 2U);
  EXPECT_EQ(count_state("queued"), 1U);
  const size_t steps = place_.metrics("many/seed=1").size();
  EXPECT_LT(steps, held.steps);
  // What is left counts, and what the steps so far have taken.
  for (const char* run : {"seed=1", "seed=2", "seed=3"}) {
    std::istringstream words(left.substr(left.find(run), left.find('\n', left.find(run)) - left.find(run)));
    const std::vector<std::string> all(std::istream_iterator<std::string>(words), {});
    const size_t rest = held.steps - place_.metrics("many/" + std::string(run)).size();
    EXPECT_GE(std::count(all.begin(), all.end(), std::to_string(rest)), 1) << left;
  }
  EXPECT_SAYS(left, "FLOPs; about ");
  std::vector<std::string> resumed = options;
  resumed.emplace_back("--resume");
  const Outcome whole = sweep(resumed);
  EXPECT_EQ(whole.status, 0) << whole.err;
  EXPECT_SAYS(whole.out, fmt::format("seed=1: goes on from its latest checkpoint; it had taken {} steps", steps));
  EXPECT_EQ(count_state("done"), 3U);
  const std::string all_steps = fmt::format("run.steps={}", held.steps);
  EXPECT_EQ(place_.run({"train", place_.path("config.json"), "--set", all_steps, "--set", "run.name=alone", "--set", "seed=1"}).status, 0);
  EXPECT_TRUE(plain(place_.metrics("many/seed=1")) == plain(place_.metrics("alone")));
  resumed = {"--set", "run.steps=110", "--set", "run.checkpoint_interval=100000", "--resume"};
  const Outcome other = sweep_without_runs(resumed);
  EXPECT_EQ(other.status, 2);
  EXPECT_SAYS(other.err, fmt::format("began with (its sweep.json has that): run.steps is 110 and was {}. `", held.steps));
  EXPECT_SAYS(other.err,
              "--set run.steps=110 --set run.checkpoint_interval=100000 --resume --set " + all_steps + "` goes on with what it was");
}

// A run is what its configuration makes it, whatever the file calls it now.
TEST_F(SweepCommand, AKeyThatIsNewInTheGridStartsNoFinishedRunAgain) {
  file(R"("grid": {"optimizer.params.lr": [0.001, 0.002]})");
  ASSERT_EQ(sweep().status, 0);
  std::map<std::string, std::string> metrics;
  for (const char* run : {"lr=0.001", "lr=0.002"}) metrics[run] = place_.read(std::string("runs/many/") + run + "/metrics.csv");
  // The base has seed 3.
  file(R"("grid": {"optimizer.params.lr": [0.002, 0.001]}, "repeat": {"seed": [3, 4]}, "resources": {"jobs": 2})");
  const std::string note = "2 runs keep the names of their folders: lr=0.002,seed=3 is lr=0.002, lr=0.001,seed=3 is lr=0.001";
  const Outcome dry = sweep_without_runs({"--resume", "--dry-run"});
  EXPECT_SAYS(dry.out, note);
  EXPECT_SAYS(dry.out, "2 of 4 runs are left to be started or to go on");
  EXPECT_SAYS(sweep_without_runs({"--resume", "--dry-run", "--only", "*seed=3"}).out, "0 of 2 runs are left");
  const Outcome done = sweep({"--resume"});
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, note);
  EXPECT_EQ(count(done.out, ": started"), 2U);
  EXPECT_EQ(count_state("done"), 4U);
  for (const auto& [run, text] : metrics) {
    EXPECT_EQ(place_.read("runs/many/" + run + "/metrics.csv"), text);
    EXPECT_EQ(rows().at(run).at("seed"), "3");
  }
  for (const char* run : {"lr=0.001,seed=4", "lr=0.002,seed=4"}) EXPECT_EQ(place_.metrics(std::string("many/") + run).size(), 4U);
}

TEST_F(SweepCommand, WhatItBeganWithIsNotGuessed) {
  file(R"("repeat": {"seed": [1]})");
  ASSERT_EQ(sweep().status, 0);
  const std::string sweep_json = place_.read("runs/many/sweep.json"), metrics = place_.read("runs/many/seed=1/metrics.csv");
  place_.write("runs/many/sweep.json", "");
  const Outcome damaged = sweep_without_runs({"--resume"});
  EXPECT_EQ(damaged.status, 2);
  EXPECT_SAYS(damaged.err, "sweep.json is missing or damaged, which tells what the sweep began with");
  place_.write("runs/many/sweep.json", sweep_json);
  std::filesystem::remove(place_.path("runs/many/journal.jsonl"));
  const Outcome anew = sweep_without_runs({});
  EXPECT_EQ(anew.status, 2);
  EXPECT_SAYS(anew.err, "holds a run that journal.jsonl does not know, which a new one would replace: seed=1");
  EXPECT_EQ(place_.read("runs/many/seed=1/metrics.csv"), metrics);
}

TEST_F(SweepCommand, WhatIsArchivedCountsAsDone) {
  file(R"("repeat": {"seed": [1, 2]}, "resources": {"jobs": 2})");
  ASSERT_EQ(sweep().status, 0);
  const auto before = rows();  // what is known of them stays
  const auto pack = [&](const std::string& run, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"runs", "archive", place_.path("runs/many/" + run), "--remove"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome packed = place_.run(arguments);
    ASSERT_EQ(packed.status, 0) << packed.err;
    ASSERT_FALSE(place_.exists("runs/many/" + run));
  };
  pack("seed=1", {});
  const Outcome drawn = place_.run({"plot", place_.path("runs/many"), "--view", "loss"});
  ASSERT_EQ(drawn.status, 0) << drawn.err;
  EXPECT_SAYS(drawn.err, "1 run is archived: its row is without curves, with the figures of the sweep's journal: seed=1 (" +
                             place_.path("runs/many/seed=1.tar") + ")");
  EXPECT_SAYS(place_.read("runs/many/plots/summary.csv"), "seed=1,1,archived,4," + before.at("seed=1").at("loss") + ",");
  EXPECT_SAYS(place_.read("runs/many/plots/report.html"), ">archived</span>");
  pack("seed=2", {"--out", place_.path("kept")});
  EXPECT_SAYS(sweep_without_runs({"--resume", "--dry-run"}).out, "0 of 2 runs are left");
  const Outcome done = sweep_without_runs({"--resume"});
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "2 runs are archived and count as done: seed=1 (" + place_.path("runs/many/seed=1.tar") + "), seed=2 (" +
                            place_.path("kept/seed=2.tar") + ")");
  EXPECT_EQ(rows(), before);
  EXPECT_SAYS(done.out, "the report stays as it is");
  const Outcome nothing = place_.run({"plot", place_.path("runs/many")});
  EXPECT_EQ(nothing.status, 2);
  EXPECT_SAYS(nothing.err, "all of its runs are archived, so there is nothing to draw: seed=1 (");
  for (const char* run : {"seed=1", "seed=2"}) EXPECT_FALSE(place_.exists(std::string("runs/many/") + run));
  // A search would have to look into it.
  file(R"("repeat": {"seed": [1, 2]}, "search": {"rungs": [2, 4]})");
  const Outcome search = sweep_without_runs({"--resume"});
  EXPECT_EQ(search.status, 2);
  EXPECT_SAYS(search.err, "the search compares its runs by their metrics.csv, and seed=1 is archived: unpack it with `tar -xf " +
                              place_.path("runs/many/seed=1.tar") + " -C ");
}

TEST_F(SweepCommand, WhatIsNotAskedForKeepsItsRow) {
  file(R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2})");
  ASSERT_EQ(sweep().status, 0);
  auto before = rows();
  std::filesystem::remove_all(place_.path("runs/many/seed=2"));
  const Outcome one = sweep({"--resume", "--only", "seed=2"});
  EXPECT_EQ(one.status, 0) << one.err;
  EXPECT_SAYS(one.out, "1 of 1 run done; 2 others stay as they are (2 done): ");
  EXPECT_EQ(count(one.out, ": started"), 1U);
  auto after = rows();
  EXPECT_EQ(after.size(), 3U);
  for (const char* run : {"seed=1", "seed=3"}) EXPECT_EQ(after.at(run), before.at(run));
  EXPECT_EQ(after.at("seed=2").at("loss"), before.at("seed=2").at("loss"));
  // Nor is what the file has lost.
  file(R"("repeat": {"seed": [2, 3]}, "resources": {"jobs": 2})");
  EXPECT_SAYS(sweep_without_runs({"--resume"}).out, "2 of 2 runs done; 1 other stays as it is (1 done): ");
  EXPECT_EQ(rows(), after);
}

// What somebody has taken out of a folder is made anew.
TEST_F(SweepCommand, APartOfARunsFolderIsNoDeadEnd) {
  file(R"("repeat": {"seed": [1, 2]}, "resources": {"jobs": 2})");
  ASSERT_EQ(sweep().status, 0);
  const Rows whole = plain(place_.metrics("many/seed=1"));
  place_.write("runs/many/seed=1/metrics.csv", "");
  const Outcome done = sweep({"--resume"});
  EXPECT_EQ(done.status, 0) << done.out;
  EXPECT_EQ(count_state("done"), 2U);
  EXPECT_TRUE(plain(place_.metrics("many/seed=1")) == whole);
}

// A program that crashes does so again: nothing starts after it, and --resume leaves it alone.
TEST_F(SweepCommand, ASignalOfARunsOwnFaultIsAFailure) {
  file(R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2})");
  const HeldSweep held = start_and_hold({"--set", "run.checkpoint_interval=10", "--stop-on-failure"}, 1);
  ASSERT_EQ(held.runs.size(), 2U);
  ::kill(held.runs.at("seed=1"), SIGSEGV);
  for (const auto& [run, process] : held.runs) ::kill(process, SIGCONT);
  EXPECT_EQ(place_.finish(held.sweep).status, 1);
  EXPECT_EQ(rows()["seed=1"]["state"], "failed");
  EXPECT_EQ(rows()["seed=1"]["exit"], "139");
  EXPECT_SAYS(rows()["seed=1"]["error"], "ended by SIGSEGV");
  EXPECT_EQ(rows()["seed=2"]["state"], "done");
  EXPECT_EQ(rows()["seed=3"]["state"], "queued");
  EXPECT_SAYS(place_.run({"watch", place_.path("runs"), "--once"}).out, "ended by SIGSEGV");
  std::vector<std::string> resumed = held.options;
  resumed.emplace_back("--resume");
  EXPECT_EQ(sweep(resumed).status, 1);
  EXPECT_EQ(rows()["seed=1"]["state"], "failed");
  resumed.emplace_back("--retry-failed");
  EXPECT_EQ(sweep(resumed).status, 0);
  EXPECT_EQ(count_state("done"), 3U);
}

// mpirun gives another status than its ranks then. The first signal may have been enough, as the log tells.
TEST_F(SweepCommand, ASecondSignalKillsRunsOfTwoRanksThatHaveNotSaved) {
  file(R"("repeat": {"seed": [1]}, "resources": {"ranks": 2})");
  const pid_t pid = place_.start(command({"--set", "run.steps=100000", "--set", "run.checkpoint_interval=1000000"}));
  ASSERT_TRUE(comes([&] { return place_.metrics("many/seed=1").size() > 5; }));
  ::kill(pid, SIGTERM);
  ASSERT_TRUE(comes([&] { return place_.read("runs/many/journal.jsonl").find("runs are asked to stop") != std::string::npos; }));
  ::kill(pid, SIGTERM);
  EXPECT_EQ(place_.finish(pid).status, 128 + SIGTERM);
  const bool has_saved = place_.read("runs/many/seed=1/log.txt").find("stopped by SIG") != std::string::npos;
  EXPECT_EQ(count_state(has_saved ? "interrupted" : "killed"), 1U) << place_.read("runs/many/runs.csv");
  EXPECT_SAYS(place_.run({"watch", place_.path("runs"), "--once"}).out, has_saved ? "| interrupted |" : "| killed ");
}

}  // namespace
}  // namespace zerostep::testing
