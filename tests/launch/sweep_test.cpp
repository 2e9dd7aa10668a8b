#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

using Rows = std::vector<std::map<std::string, std::string>>;

class SweepCommand : public ::testing::Test {
 protected:
  // A sweep in the folder "runs/many", of a model whose steps take next to nothing.
  std::string file(const std::string& blocks) {
    place_.write("config.json", R"({"train_batch_size": 2, "train_micro_batch_size_per_gpu": 1, "seed": 3,
  "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
  "model": {"family": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 1, "n_positions": 16},
  "data": {"train": ")" + place_.path("corpus.txt") +
                                    R"(", "sequence_length": 8}, "run": {"name": "test", "output_dir": ")" + place_.path("runs") +
                                    R"(", "steps": 4}})");
    place_.write("sweep.json", "{\"base\": \"" + place_.path("config.json") + "\", \"name\": \"many\", \"output_dir\": \"" +
                                   place_.path("runs") + "\", " + blocks + "}");
    return place_.path("sweep.json");
  }
  // By the binary itself: a sweep starts the program that it is.
  std::vector<std::string> command(const std::vector<std::string>& options) {
    std::vector<std::string> out{"env", program(), "sweep", place_.path("sweep.json")};
    out.insert(out.end(), options.begin(), options.end());
    return out;
  }
  Outcome sweep(const std::vector<std::string>& options = {}) { return place_.run_command(command(options), {.timeout_seconds = 120}); }
  // One that starts no run, which a fork does in a tenth of the time.
  Outcome sweep_without_runs(std::vector<std::string> options) {
    options.insert(options.begin(), {"sweep", place_.path("sweep.json")});
    return place_.run(options);
  }

  std::map<std::string, std::map<std::string, std::string>> rows() {
    std::istringstream lines(place_.read("runs/many/runs.csv"));
    std::map<std::string, std::map<std::string, std::string>> out;
    std::vector<std::string> names;
    for (std::string line; std::getline(lines, line);) {
      std::vector<std::string> cells(1);
      bool is_quoted = false;
      for (char c : line) {
        if (c == '"') is_quoted = !is_quoted;
        if (c == ',' && !is_quoted) cells.emplace_back();
        if (c != '"' && (c != ',' || is_quoted)) cells.back() += c;
      }
      if (names.empty()) {
        names = cells;
        continue;
      }
      for (size_t i = 0; i < std::min(names.size(), cells.size()); ++i) out[cells[0]][names[i]] = cells[i];
    }
    return out;
  }
  size_t count_state(const std::string& state) {
    size_t out = 0;
    for (const auto& [run, row] : rows()) out += row.at("state") == state ? 1 : 0;
    return out;
  }
  // Rows without their times. They are compared as a whole: shown they would fill pages.
  static Rows plain(Rows rows) {
    for (auto& row : rows)
      std::erase_if(row, [](const auto& cell) {
        return cell.first.find("time") != std::string::npos || cell.first.find("second") != std::string::npos ||
               cell.first.find("resident") != std::string::npos || cell.first == "host_peak_bytes";  // what checkpoints are staged in
      });
    return rows;
  }
  static bool comes(const std::function<bool()>& holds) {
    for (int i = 0; i < 3000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return holds();
  }
  // The process that runs a run of the sweep; 0: none.
  static pid_t process_of(const std::string& run) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      std::ifstream in(entry.path() / "cmdline");
      const std::string text((std::istreambuf_iterator<char>(in)), {});
      if (text.find("run.name=\"" + run + "\"") != std::string::npos) return std::stoi(name);
    }
    return 0;
  }
  // A line of /proc/PROCESS/status without its name; "": there is none.
  static std::string status_of(pid_t process, const std::string& name) {
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);)
      if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
    return "";
  }
  // Holds a run of the sweep once it has some rows, so that it does not end meanwhile. Gives its process; 0: it has fewer rows, or all.
  pid_t hold(const std::string& run, size_t rows, size_t all) {
    const pid_t process = place_.metrics("many/" + run).size() >= rows ? process_of(run) : 0;
    if (process == 0) return 0;
    ::kill(process, SIGSTOP);
    // Stopped, or a zombie that nobody has heard of yet, or gone.
    const auto rests = [&] { return std::string_view("TZ").find(status_of(process, "State").substr(0, 1)) != std::string_view::npos; };
    if (comes(rests) && place_.metrics("many/" + run).size() < all) return process;
    ::kill(process, SIGCONT);
    return 0;
  }
  // Whether a process that is held has been asked to save and stop.
  static bool is_asked(pid_t process) {
    const std::string pending = status_of(process, "ShdPnd");
    return !pending.empty() && (std::stoull(pending, nullptr, 16) >> (SIGUSR1 - 1) & 1) != 0;
  }
  // Interrupts a sweep whose runs seed=1 and seed=2 have begun, in the middle of both.
  void interrupt(pid_t sweep, size_t all) {
    std::vector<pid_t> held;
    for (const char* run : {"seed=1", "seed=2"}) {
      pid_t process = 0;
      ASSERT_TRUE(comes([&] { return (process = hold(run, 1, all)) != 0; })) << run;
      held.push_back(process);
    }
    ASSERT_TRUE(comes([&] { return count_state("running") == 2; }));
    ::kill(sweep, SIGINT);
    for (pid_t process : held) {
      EXPECT_TRUE(comes([&] { return is_asked(process); }));
      ::kill(process, SIGCONT);
    }
  }
  Workplace place_;
};

// Twelve runs, four of which fail; one is killed, then the sweep itself; what it left goes on.
TEST_F(SweepCommand, SurvivesKillsAndEachRunIsTheRunAlone) {
  file(R"("grid": {"step.mode": ["fo", "zo"]}, "repeat": {"seed": [1, 2, 3, 4]}, "runs": [{"optimizer.params.lr": 1e30, "step.mode": "fo"}],
          "resources": {"jobs": 2})");
  const std::vector<std::string> options{"--set", "run.steps=60", "--set", "run.checkpoint_interval=10"};
  const pid_t pid = place_.start(command(options));
  std::string victim;
  pid_t process = 0;
  ASSERT_TRUE(comes([&] {
    for (const auto& [run, row] : rows())
      if (row.at("state") == "running" && (process = hold(run, 12, 60)) != 0) {
        victim = run;
        break;
      }
    return process != 0;
  }));
  ::kill(process, SIGKILL);
  ASSERT_TRUE(comes([&] { return rows()[victim]["state"] == "interrupted"; }));
  EXPECT_SAYS(rows()[victim]["error"], "ended by signal 9 from outside");
  ASSERT_TRUE(comes([&] { return count_state("done") >= 2; }));
  ::kill(pid, SIGKILL);
  EXPECT_EQ(place_.finish(pid).status, 128 + SIGKILL);
  ASSERT_TRUE(comes([&] {
    const auto now = rows();
    return std::all_of(now.begin(), now.end(), [](const auto& row) { return process_of(row.first) == 0; });
  }));
  const std::string journal = place_.read("runs/many/journal.jsonl");
  std::map<std::string, std::string> finished;
  std::set<std::string> compared{victim, "mode=zo,seed=1"};  // with the runs alone
  for (const auto& [run, row] : rows()) {
    if (row.at("state") == "done") finished[run] = place_.read("runs/many/" + run + "/metrics.csv");
    if (row.at("state") == "running") compared.insert(run);
  }

  EXPECT_EQ(sweep_without_runs(options).status, 2);  // it holds a sweep already
  std::vector<std::string> resumed = options;
  resumed.emplace_back("--resume");
  const Outcome done = sweep(resumed);
  EXPECT_EQ(done.status, 1) << done.out << done.err;
  EXPECT_EQ(count_state("done"), 8U);
  EXPECT_EQ(count_state("failed"), 4U);
  EXPECT_TRUE(place_.read("runs/many/journal.jsonl").starts_with(journal.substr(0, journal.rfind('\n') + 1)));
  for (const auto& [run, metrics] : finished) EXPECT_EQ(place_.read("runs/many/" + run + "/metrics.csv"), metrics) << run;
  for (const auto& [run, row] : rows()) {
    if (row.at("state") == "failed") {
      EXPECT_SAYS(row.at("error"), "nan");
      EXPECT_EQ(row.at("exit"), "1");
      continue;
    }
    if (!compared.contains(run)) continue;
    std::vector<std::string> alone{"train",
                                   place_.path("config.json"),
                                   "--set",
                                   "run.steps=60",
                                   "--set",
                                   "run.name=alone",
                                   "--overwrite",
                                   "--set",
                                   "seed=" + row.at("seed"),
                                   "--set",
                                   "step.mode=" + row.at("step.mode")};
    EXPECT_EQ(place_.run(alone).status, 0);
    EXPECT_TRUE(plain(place_.metrics("many/" + run)) == plain(place_.metrics("alone"))) << run;
  }
}

TEST_F(SweepCommand, AnInterruptSavesAndResumeGoesOn) {
  file(R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2})");
  const std::vector<std::string> options{"--set", "run.steps=100", "--set", "run.checkpoint_interval=100000"};
  const pid_t pid = place_.start(command(options));
  interrupt(pid, 100);
  const Outcome stopped = place_.finish(pid);
  EXPECT_EQ(stopped.status, 130);
  EXPECT_SAYS(stopped.out,
              "sweep " + place_.path("sweep.json") + " --set run.steps=100 --set run.checkpoint_interval=100000 --resume` goes on");
  std::vector<std::string> dry = options;
  dry.insert(dry.end(), {"--resume", "--dry-run"});
  EXPECT_SAYS(sweep_without_runs(dry).out, "3 of 3 runs are left to be started or to go on");
  EXPECT_EQ(count_state("interrupted"), 2U);
  EXPECT_EQ(count_state("queued"), 1U);
  const size_t steps = place_.metrics("many/seed=1").size();
  EXPECT_LT(steps, 100U);
  std::vector<std::string> resumed = options;
  resumed.emplace_back("--resume");
  EXPECT_EQ(sweep(resumed).status, 0);
  EXPECT_EQ(count_state("done"), 3U);
  EXPECT_EQ(
      place_.run({"train", place_.path("config.json"), "--set", "run.steps=100", "--set", "run.name=alone", "--set", "seed=1"}).status, 0);
  EXPECT_TRUE(plain(place_.metrics("many/seed=1")) == plain(place_.metrics("alone")));
  resumed = {"--set", "run.steps=110", "--set", "run.checkpoint_interval=100000", "--resume"};
  const Outcome other = sweep_without_runs(resumed);
  EXPECT_EQ(other.status, 2);
  EXPECT_SAYS(other.err, "is not the one that the sweep");
}

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
  const Outcome done = sweep({"--set", "run.steps=20"});
  EXPECT_EQ(done.status, 0) << done.err;
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
  EXPECT_EQ(count(done.out, ": started\n"), 2U);
  EXPECT_EQ(count_state("done"), 4U);
  for (const auto& [run, text] : metrics) {
    EXPECT_EQ(place_.read("runs/many/" + run + "/metrics.csv"), text);
    EXPECT_EQ(rows().at(run).at("seed"), "3");
  }
  for (const char* run : {"lr=0.001,seed=4", "lr=0.002,seed=4"}) EXPECT_EQ(place_.metrics(std::string("many/") + run).size(), 4U);
}

TEST_F(SweepCommand, WhatIsArchivedCountsAsDone) {
  file(R"("repeat": {"seed": [1, 2]}, "resources": {"jobs": 2})");
  ASSERT_EQ(sweep().status, 0);
  // What is known of them stays, but that the journal tells the moment of a start and the row that after it.
  const auto known = [&] {
    auto out = rows();
    for (auto& [run, row] : out) row.erase("started");
    return out;
  };
  const auto before = known();
  const auto pack = [&](const std::string& run, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"runs", "archive", place_.path("runs/many/" + run), "--remove"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome packed = place_.run(arguments);
    ASSERT_EQ(packed.status, 0) << packed.err;
    ASSERT_FALSE(place_.exists("runs/many/" + run));
  };
  pack("seed=1", {});
  pack("seed=2", {"--out", place_.path("kept")});
  EXPECT_SAYS(sweep_without_runs({"--resume", "--dry-run"}).out, "0 of 2 runs are left");
  const Outcome done = sweep_without_runs({"--resume"});
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "2 runs are archived and count as done: seed=1 (" + place_.path("runs/many/seed=1.tar") + "), seed=2 (" +
                            place_.path("kept/seed=2.tar") + ")");
  EXPECT_EQ(known(), before);
  EXPECT_SAYS(done.out, "the report stays as it is");
  for (const char* run : {"seed=1", "seed=2"}) EXPECT_FALSE(place_.exists(std::string("runs/many/") + run));
  // A search would have to look into it.
  file(R"("repeat": {"seed": [1, 2]}, "search": {"rungs": [2, 4]})");
  const Outcome search = sweep_without_runs({"--resume"});
  EXPECT_EQ(search.status, 2);
  EXPECT_SAYS(search.err, "the search compares its runs by their metrics.csv, and seed=1 is archived: unpack it into");
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

// mpirun gives another status than its ranks then.
TEST_F(SweepCommand, ASecondSignalLeavesRunsOfTwoRanksInterrupted) {
  file(R"("repeat": {"seed": [1]}, "resources": {"ranks": 2})");
  const pid_t pid = place_.start(command({"--set", "run.steps=100000", "--set", "run.checkpoint_interval=1000000"}));
  ASSERT_TRUE(comes([&] { return place_.metrics("many/seed=1").size() > 5; }));
  ::kill(pid, SIGTERM);
  ASSERT_TRUE(comes([&] { return place_.read("runs/many/journal.jsonl").find("runs save and stop") != std::string::npos; }));
  ::kill(pid, SIGTERM);
  EXPECT_EQ(place_.finish(pid).status, 128 + SIGTERM);
  EXPECT_EQ(count_state("interrupted"), 1U) << place_.read("runs/many/runs.csv");
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
  EXPECT_SAYS(said({}), "holds a sweep already");
  EXPECT_SAYS(said({"--set", "data.train=nowhere.txt", "--set", "run.steps=1"}), "4 of 4 points cannot run");
  std::filesystem::remove_all(place_.path("runs/many"));
  EXPECT_SAYS(said({"--resume"}), "holds no sweep");
  EXPECT_EQ(sweep({"--set", "optimizer.params.lr=1e30", "--only", "mode=fo*", "--jobs", "1", "--stop-on-failure"}).status, 1);
  EXPECT_EQ(count_state("failed"), 1U);
  EXPECT_EQ(count_state("queued"), 1U);
}

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
  EXPECT_EQ(place_.run({"train", place_.path("config.json"), "--set", "run.name=alone", "--set", "seed=2", "--set", "step.mode=zo"}).status,
            0);
  EXPECT_TRUE(plain(place_.metrics("many/mode=zo,seed=2")) == plain(place_.metrics("alone")));
}

TEST_F(SweepUnderSlurm, AnInterruptSavesCancelsWhatWaitsAndResumeGoesOn) {
  file(R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2, "executor": "slurm"})");
  std::vector<std::string> options{"--set", "run.steps=100", "--set", "run.checkpoint_interval=100000"};
  const pid_t pid = place_.start(command(options), how());
  interrupt(pid, 100);
  EXPECT_EQ(place_.finish(pid).status, 130);
  EXPECT_EQ(count_state("interrupted"), 3U);
  EXPECT_FALSE(place_.exists("runs/many/seed=3/metrics.csv"));
  EXPECT_LT(place_.metrics("many/seed=1").size(), 100U);
  options.emplace_back("--resume");
  EXPECT_EQ(place_.run_command(command(options), how()).status, 0);
  EXPECT_EQ(count_state("done"), 3U);
  EXPECT_EQ(
      place_.run({"train", place_.path("config.json"), "--set", "run.steps=100", "--set", "run.name=alone", "--set", "seed=1"}).status, 0);
  EXPECT_TRUE(plain(place_.metrics("many/seed=1")) == plain(place_.metrics("alone")));
}

TEST_F(SweepUnderSlurm, WithoutSbatchOneErrorSaysSo) {
  file(R"("repeat": {"seed": [1]}, "resources": {"executor": "slurm"})");
  const Outcome done = place_.run({"sweep", place_.path("sweep.json")}, {.environment = {{"PATH", "/nowhere"}}});
  EXPECT_EQ(done.status, 1);
  EXPECT_SAYS(done.err, "sbatch cannot be started: No such file or directory");
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

}  // namespace
}  // namespace zerostep::testing
