#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "base/format.h"
#include "runtime/timing/machine.h"
#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {
namespace {

int first_core() {
  cpu_set_t cores;
  sched_getaffinity(0, sizeof(cores), &cores);
  int core = 0;
  while (!CPU_ISSET(core, &cores)) ++core;
  return core;
}

class BenchMachine : public ::testing::Test {
 protected:
  BenchMachine() { std::filesystem::create_directories(place_.path("disk")); }
  std::vector<std::string> arguments(const std::vector<std::string>& more, const std::string& seconds) const {
    std::vector<std::string> out{"bench", "machine", "--seconds", seconds, "--scratch", place_.path("disk")};
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
  How how() const { return {.environment = {{"XDG_CACHE_HOME", place_.path("cache")}}, .timeout_seconds = 120}; }
  // On one rank.
  Outcome measure(const std::vector<std::string>& more) const {
    std::vector<std::string> words{"--ranks", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return place_.run(arguments(words, "0.5"), how());
  }
  std::vector<std::string> kept() const {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(place_.path("cache/zerostep/machines"))) out.push_back(entry.path());
    return out;
  }
  // Positive figures of everything that so many ranks have.
  void expect_machine(const std::string& file, int ranks) const {
    const Machine m = read_machine(file);
    EXPECT_EQ(m.ranks_per_host, ranks);
    EXPECT_EQ(m.threads_per_rank, 1);
    EXPECT_FALSE(m.name.empty());
    EXPECT_TRUE(m.file_read.is_known() && m.file_write.is_known());
    EXPECT_EQ(m.gather_in_host.is_known(), ranks > 1);
    EXPECT_EQ(m.reduce_in_host.is_known(), ranks > 1);
    EXPECT_EQ(m.agreement_seconds > 0, ranks > 1);
    EXPECT_GE(m.gemm.size(), 3u);
    EXPECT_TRUE(std::filesystem::is_empty(place_.path("disk"))) << "scratch files are left";
  }
  Workplace place_;
};

TEST_F(BenchMachine, MeasuresPrintsKeepsAndWrites) {
  place_.write("mine.json", "{}");
  const Outcome refused = measure({"--out", place_.path("mine.json")});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "mine.json: that exists and is nothing that --out wrote before");
  EXPECT_EQ(place_.read("mine.json"), "{}");
  const Outcome done = measure({"--out", place_.path("this.json")});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_SAYS(done.out, "1 rank a host, 1 thread each");
  for (const char* part : {"GFLOP/s of products", "  bf16", "other operations, fp32", "an operation of LibTorch", "memory", "noise",
                           "AdamW", "file reads", "file writes", "middle half within", "kept "})
    EXPECT_SAYS(done.out, part);
  EXPECT_SAYS(done.err, "measuring products in fp32");
  EXPECT_SAYS(done.err, " s left");
  expect_machine(place_.path("this.json"), 1);
  ASSERT_EQ(kept().size(), 1u);
  EXPECT_SAYS(done.out, kept()[0]);
  expect_machine(kept()[0], 1);
}

// On one core, which both ranks share.
TEST_F(BenchMachine, RanksOfMpirunAndThreadsAsRanksMeasureTheSameThings) {
  for (const int processes : {1, 2}) {
    std::vector<std::string> command{"taskset", "-c", std::to_string(first_core())};
    for (const std::string& word : place_.command(arguments({"--out", place_.path("this.json")}, "1"), processes)) command.push_back(word);
    if (processes == 1) command.insert(command.end(), {"--ranks", "2"});
    const Outcome done = place_.run_command(command, how());
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_EQ(count(done.out, "2 ranks a host, 1 thread each"), 1u) << done.out;
    EXPECT_EQ(count(done.err, "measuring products in fp32"), 1u) << done.err;
    EXPECT_EQ(count(done.err, "warning: 2 ranks share 1 core here: "), 1u) << done.err;
    EXPECT_SAYS(done.out, "gathers in a host");
    expect_machine(place_.path("this.json"), 2);
    EXPECT_DOUBLE_EQ(read_machine(place_.path("this.json")).cores_per_rank, 0.5);
    EXPECT_EQ(kept().size(), 1u) << "the later measurement replaces the earlier one";
  }
}

TEST_F(BenchMachine, ARankThatIsKilledEndsTheJob) {
  for (const bool has_begun : {false, true}) {
    How killed = how();
    killed.environment.insert(kNoGrace.begin(), kNoGrace.end());
    const pid_t job = place_.start(place_.command(arguments({}, "60"), 2), killed);
    std::vector<pid_t> ranks;
    while (ranks.size() < 2 || (has_begun && place_.read("stderr").find("measuring products in bf16") == std::string::npos)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ranks = children_of(job);
    }
    ::kill(ranks.back(), SIGKILL);
    const Outcome done = place_.finish(job, 30);
    EXPECT_FALSE(done.timed_out) << done.err;
    EXPECT_NE(done.status, 0) << done.err;
    EXPECT_LE(count(done.err, "zerostep: "), 1u) << done.err;
  }
}

// Programs that take the cores from others while the object lives.
class BusyMachine {
 public:
  BusyMachine() {
    for (unsigned i = 0; i < 3 * std::max(1u, std::thread::hardware_concurrency()); ++i)
      threads_.emplace_back([this] {
        while (!ends_.load(std::memory_order_relaxed)) {
        }
      });
  }
  ~BusyMachine() {
    ends_ = true;
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> ends_ = false;
  std::vector<std::thread> threads_;
};

TEST_F(BenchMachine, FiguresOfABusyMachineAreCalledSoAndReplaceNoSteadyOnes) {
  const std::map<std::string, std::string> environment{{"XDG_CACHE_HOME", place_.path("cache")}};
  const std::string file = place_.config();
  ASSERT_EQ(measure({}).status, 0);
  ASSERT_EQ(kept().size(), 1u);
  Machine machine = read_machine(kept()[0]);
  EXPECT_EQ(machine.measured_seconds, 0.5);
  machine.is_unsteady = false;
  machine.name = "steady";
  write_machine(kept()[0], machine);
  EXPECT_SAYS(place_.run({"plan", file}, {.environment = environment}).out, "predicted for steady\n");
  {
    const BusyMachine busy;
    const Outcome refused = measure({"--out", place_.path("busy.json")});
    EXPECT_EQ(refused.status, 0) << refused.err;
    EXPECT_SAYS(refused.err, "warning: something else ran meanwhile: the figures of ");
    EXPECT_EQ(count(refused.err, "measuring "), count(refused.err, " s left")) << refused.err;
    EXPECT_SAYS(refused.out, "not: the figures in " + kept()[0] + " are steady; --force replaces them");
  }
  EXPECT_EQ(read_machine(kept()[0]).name, "steady");
  const Machine unsteady = read_machine(place_.path("busy.json"));
  EXPECT_TRUE(unsteady.is_unsteady);
  // Whatever the machine does now, --force replaces what nothing else would: steady figures of a longer measurement.
  machine.measured_seconds = 100;
  write_machine(kept()[0], machine);
  const Outcome forced = measure({"--force"});
  EXPECT_SAYS(forced.out, "kept                       " + kept()[0]);
  EXPECT_EQ(read_machine(kept()[0]).measured_seconds, 0.5);
  write_machine(kept()[0], unsteady);
  const std::string says = "measured on a busy machine: run `" + program() + " bench machine` again";
  EXPECT_SAYS(place_.run({"plan", file}, {.environment = environment}).out, says);
  EXPECT_SAYS(place_.run({"plan", file, "--machine", place_.path("busy.json")}, {.environment = environment}).out, says);
  EXPECT_SAYS(place_.run({"plan", file, "--fit", "--machine", place_.path("busy.json"), "--out", place_.path("fit.json")}).out,
              "its figures were " + says);
  EXPECT_SAYS(place_.run({"train", file, "--set", "run.name=busy"}, {.environment = environment}).out, says);
}

TEST_F(BenchMachine, FiguresThatCannotBeReadAreCalledSo) {
  ASSERT_EQ(measure({}).status, 0);
  const std::map<std::string, std::string> environment{{"XDG_CACHE_HOME", place_.path("cache")}};
  const std::string file = place_.config();
  std::filesystem::resize_file(kept()[0], 100);
  const std::string says = "what was measured cannot be read (" + kept()[0];
  EXPECT_SAYS(place_.run({"plan", file}, {.environment = environment}).out, "Time of a step: " + says);
  EXPECT_SAYS(place_.run({"train", file}, {.environment = environment}).err, "the time of a step is not predicted: " + says);
  EXPECT_SAYS(place_.run({"doctor"}, {.environment = environment}).out, "what was measured cannot be read, " + kept()[0]);
}

// One rank tells nothing of collectives: others go on without a prediction.
TEST_F(BenchMachine, WhatWasNotMeasuredHasNoTimes) {
  ASSERT_EQ(measure({}).status, 0);
  const std::map<std::string, std::string> environment{{"XDG_CACHE_HOME", place_.path("cache")}};
  const std::string file = place_.config();
  const int cores = static_cast<int>(std::lround(read_machine(kept()[0]).cores_per_rank));
  const Outcome alone = place_.run({"plan", file}, {.environment = environment});
  EXPECT_SAYS(alone.out, "Time of a step, predicted for");
  const Outcome planned = place_.run({"plan", file, "--world", "2", "--ranks-per-node", "2"}, {.environment = environment});
  EXPECT_EQ(planned.status, 0) << planned.err;
  EXPECT_EQ(planned.out.find("Time of a step, predicted for"), std::string::npos);
  // Each says what is the case, and what helps there.
  const std::string measured = "Time of a step: this machine was measured with 1 rank on its " + counted(cores, "core") + ", and ";
  EXPECT_SAYS(planned.out, measured + "2 ranks are asked for: " +
                               (cores < 2 ? "`" + program() + " plan --machine FILE`" : "`" + program() + " bench machine --ranks 2`"));
  const std::string many = std::to_string(2 * cores);
  const Outcome crowded = place_.run({"plan", file, "--world", many, "--ranks-per-node", many, "--set", "train_batch_size=" + many},
                                     {.environment = environment});
  EXPECT_SAYS(crowded.out, measured + many + " ranks are asked for: `" + program() +
                               " plan --machine FILE` plans for a machine that has a core for each");
  const Outcome hosts =
      place_.run({"plan", file, "--world", many, "--ranks-per-node", std::to_string(cores), "--set", "train_batch_size=" + many},
                 {.environment = environment});
  EXPECT_SAYS(hosts.out, measured + many + " ranks on 2 hosts are asked for: `" + program() + " plan --machine FILE` plans for such hosts");
  EXPECT_SAYS(hosts.out, "; --ranks-per-node says how many ranks share a host");
  const Outcome fitted = place_.run({"plan", file, "--fit", "--world", many, "--ranks-per-node", many, "--set", "train_batch_size=" + many},
                                    {.environment = environment});
  EXPECT_EQ(fitted.status, 2);
  EXPECT_SAYS(fitted.err, many + " ranks are asked for: ");
  const Outcome trained = place_.run({"train", file, "--set", "run.name=unpredicted"}, {.ranks = 2, .environment = environment});
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_SAYS(trained.err, "the time of a step is not predicted: this machine was measured with 1 rank on its ");
  EXPECT_FALSE(place_.column("unpredicted", "loss").empty());
}

TEST_F(BenchMachine, WrongArgumentsAreRefusedBeforeAMinuteIsSpent) {
  struct Case {
    std::vector<std::string> more;
    int ranks;
    std::string says;
  };
  for (const Case& c :
       {Case{{"--scratch", place_.path("nowhere")}, 1, "--scratch: " + place_.path("nowhere") + " is no folder"},
        Case{{"--scratch", "/proc"}, 1, "--scratch: no file can be made in /proc"},
        Case{{"--out", place_.path("nowhere/this.json")}, 1, "nowhere is no folder"},
        Case{{"--out", "/proc/this.json"}, 1, "--out /proc/this.json: no file can be made there: "},
        Case{{"--out", place_.path(std::string(250, 't'))}, 1, "no file can be made there: File name too long"},
        Case{{"--ranks", "0"}, 1, "--ranks"}, Case{{"--seconds", "x"}, 1, "--seconds"}, Case{{"--seconds", "0.2"}, 1, "--seconds"},
        Case{{"--ranks", "4096", "--seconds", "1"}, 1, "--seconds is 1: 4096 ranks on "},
        Case{{"--ranks", "2"}, 2, "mpirun has started 2"}}) {
    std::vector<std::string> arguments{"bench", "machine"};
    arguments.insert(arguments.end(), c.more.begin(), c.more.end());
    const Outcome done = place_.run(arguments, {.ranks = c.ranks});
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_EQ(count(done.err, c.says), 1u) << done.err;
    EXPECT_EQ(done.err.find("measuring"), std::string::npos) << done.err;
    EXPECT_EQ(done.out, "");
  }
  const Outcome guessed = place_.run({"bench", "step"});
  EXPECT_EQ(guessed.status, 2);
  EXPECT_SAYS(guessed.err, "wall_clock_breakdown");
}

}  // namespace
}  // namespace zerostep::testing
