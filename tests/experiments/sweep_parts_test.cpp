#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <fstream>
#include <map>
#include <thread>

#include "base/core_set.h"
#include "base/error.h"
#include "experiments/process/process.h"
#include "experiments/records/last_row.h"
#include "experiments/records/read_file.h"
#include "experiments/sweep/halving.h"
#include "experiments/sweep/machine_shares.h"
#include "experiments/sweep/screens.h"
#include "experiments/sweep/sweep_row.h"
#include "runtime/report/csv_cells.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using testing::message_of;

TEST(Halving, TheBestOfEachRungGoOn) {
  const SweepSearch search{.metric = "loss", .rungs = {10, 20, 40}, .keep = 0.5};
  std::vector<Contestant> runs(5);
  // The lower the number the better, but that run 4 overtakes run 0 by the second rung, and run 3 has no value.
  const auto value = [](size_t run, int64_t steps) {
    return run == 3 ? std::nan("") : run == 4 ? (steps > 10 ? -1.0 : 0.5) : static_cast<double>(run);
  };
  using Next = std::vector<std::optional<int64_t>>;
  EXPECT_EQ(next_rung(search, runs, value), (Next{10, 10, 10, 10, 10}));
  for (Contestant& run : runs) run.steps = 10;
  runs[2].steps = 7;
  EXPECT_EQ(next_rung(search, runs, value), (Next{{}, {}, 10, {}, {}}));
  runs[2].steps = 10;
  EXPECT_EQ(next_rung(search, runs, value), (Next{20, 20, {}, {}, 20}));  // three of five
  runs[0].steps = runs[1].steps = runs[4].steps = 20;
  EXPECT_EQ(next_rung(search, runs, value), (Next{40, {}, {}, {}, 40}));  // two of three
  EXPECT_EQ(winner(search, runs, value), std::nullopt);
  auto whole = runs;
  whole[0].steps = whole[4].steps = 40;
  EXPECT_EQ(winner(search, whole, value), 4u);
  runs[0].has_failed = true;
  runs[4].steps = 40;
  EXPECT_EQ(next_rung(search, runs, value), Next(5));
  EXPECT_EQ(winner(search, runs, value), 4u);
}

TEST(Halving, CostsAtMostWhatTheMostCostlyRunsOfEachRungTake) {
  const SweepSearch search{.metric = "loss", .rungs = {10, 20, 40}, .keep = 0.5};
  EXPECT_EQ(runs_of_rungs(search, 5), (std::vector<size_t>{5, 3, 2}));
  // A step of run i costs i + 1.
  const auto cost = [](size_t run, int64_t from, int64_t to) { return static_cast<double>(to - from) * static_cast<double>(run + 1); };
  std::vector<Contestant> runs(5);
  EXPECT_EQ(most_cost(search, runs, cost, 1), 10 * (1 + 2 + 3 + 4 + 5) + 10 * (5 + 4 + 3) + 20 * (5 + 4));
  // Four jobs have room for no more than a rung's longest run and the others beside it.
  EXPECT_EQ(most_cost(search, runs, cost, 4), 10 * 5 + 10 * 5 + 20 * 5);
  runs[4].has_failed = true;  // two of four, then one
  runs[3].steps = 15;
  EXPECT_EQ(most_cost(search, runs, cost, 1), 10 * (1 + 2 + 3) + (10 * 3 + 5 * 4) + 20 * 4);
}

TEST(Halving, FailedRunsAreOutAndTheOthersGoOn) {
  const SweepSearch search{.metric = "loss", .rungs = {10, 20}, .keep = 0.5};
  std::vector<Contestant> runs{{3, true}, {10, false}, {10, false}};
  const auto value = [](size_t run, int64_t) { return static_cast<double>(run); };
  EXPECT_EQ(next_rung(search, runs, value), (std::vector<std::optional<int64_t>>{{}, 20, {}}));
  // One that had gone on and failed then leaves its place to the next.
  EXPECT_EQ(next_rung(search, {{15, true}, {10, false}, {10, false}}, value), (std::vector<std::optional<int64_t>>{{}, 20, {}}));
  for (Contestant& run : runs) run.has_failed = true;
  runs[1].steps = runs[2].steps = 0;
  EXPECT_EQ(next_rung(search, runs, value), std::vector<std::optional<int64_t>>(3));
}

TEST(Halving, AValueIsAskedForOnceARunAndARung) {
  const SweepSearch search{.metric = "loss", .rungs = {10, 20, 40}, .keep = 0.5};
  std::map<std::pair<size_t, int64_t>, int> asked;
  next_rung(search, std::vector<Contestant>(16, {20, false}), [&](size_t run, int64_t steps) {
    ++asked[{run, steps}];
    return static_cast<double>(run);
  });
  EXPECT_EQ(asked.size(), 16u + 8u);
  for (const auto& [key, count] : asked) EXPECT_EQ(count, 1);
}

TEST(Halving, WithoutAnyValueNobodyIsChosen) {
  const SweepSearch search{.metric = "eval_loss", .rungs = {10, 20}, .keep = 0.5};
  const std::vector<Contestant> runs{{10, false}, {10, false}};
  EXPECT_SAYS(message_of<RunError>([&] { next_rung(search, runs, [](size_t, int64_t) { return std::nan(""); }); }),
              "search.metric eval_loss has no value after 10 steps in any run");
  EXPECT_EQ(next_rung(search, runs, [](size_t run, int64_t) { return run == 0 ? std::nan("") : 5; }),
            (std::vector<std::optional<int64_t>>{{}, 20}));
  EXPECT_TRUE(is_better_higher("eval_accuracy"));
  EXPECT_FALSE(is_better_higher("loss"));
}

TEST(SweepShares, ShareCoresThatDoNotOverlap) {
  MachineShares shares({.ranks = 1, .jobs = 0, .gpus = {}}, {2, 3, 5, 7, 11}, 100, 2);
  ASSERT_EQ(shares.count(), 2u);
  EXPECT_EQ(shares.at(0).cores, (std::vector<int>{2, 3}));
  EXPECT_EQ(shares.at(1).cores, (std::vector<int>{5, 7, 11}));
  EXPECT_EQ(MachineShares({.ranks = 2, .jobs = 0, .gpus = {}}, {0, 1, 2, 3, 4}, 100, 9).count(), 2u);
  const MachineShares more({.ranks = 1, .jobs = 3, .gpus = {}}, {0, 1}, 100, 9);
  EXPECT_EQ(more.count(), 3u);
  EXPECT_TRUE(more.at(0).cores.empty());
}

TEST(SweepShares, MemoryIsGivenOutAndComesBack) {
  MachineShares shares({.ranks = 1, .jobs = 3, .gpus = {}}, {0, 1, 2}, 100, 9);
  EXPECT_EQ(shares.take(60), 0u);
  EXPECT_EQ(shares.take(41), std::nullopt);
  EXPECT_EQ(shares.take(40), 1u);
  EXPECT_EQ(shares.free_bytes(), 0);
  shares.give_back(0);
  EXPECT_EQ(shares.free_bytes(), 60);
  EXPECT_EQ(shares.take(10), 0u);
  EXPECT_EQ(shares.take(10), 2u);
  EXPECT_EQ(shares.take(1), std::nullopt);  // no share is left
}

TEST(SweepShares, GpusAreThoseThatThisProcessSees) {
  ::setenv("CUDA_VISIBLE_DEVICES", "2,GPU-1a,7", 1);
  EXPECT_EQ(visible_devices({0, 1}), "2,GPU-1a");
  EXPECT_EQ(visible_devices({2}), "7");
  const std::string said = "GPU 3 is asked for (--gpus, resources.gpus), and CUDA_VISIBLE_DEVICES=2,GPU-1a,7 shows 3 GPUs to this process";
  EXPECT_SAYS(message_of<InputError>([] { visible_devices({0, 3}); }), said);
  EXPECT_SAYS(message_of<InputError>([] { MachineShares({.ranks = 1, .jobs = 0, .gpus = {3}}, {0, 1}, 100, 9); }), said);
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  EXPECT_SAYS(message_of<InputError>([] { visible_devices({0}); }), "shows 0 GPUs");
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_EQ(visible_devices({0, 3}), "0,3");
}

TEST(SweepShares, EachRunHasItsGpusForItself) {
  EXPECT_SAYS(message_of<InputError>([] {
                MachineShares({.ranks = 1, .jobs = 0, .gpus = {0, 0}}, {0, 1}, 100, 9);
              }),
              "a GPU is named twice (0,0)");
  const MachineShares shares({.ranks = 2, .jobs = 0, .gpus = {4, 5, 6, 7, 8}}, {0, 1, 2, 3}, 100, 9);
  ASSERT_EQ(shares.count(), 2u);
  EXPECT_EQ(shares.at(1).gpus, (std::vector<int>{6, 7}));
  EXPECT_EQ(shares.at(1).device(), "cuda:6,7");
  EXPECT_SAYS(message_of<InputError>([] {
                MachineShares({.ranks = 2, .jobs = 0, .gpus = {1}}, {0, 1}, 100, 9);
              }),
              "a run has 2 ranks and there is 1 GPU");
  EXPECT_SAYS(message_of<InputError>([] {
                MachineShares({.ranks = 1, .jobs = 3, .gpus = {0, 1}}, {0, 1}, 100, 9);
              }),
              "3 jobs with 1 rank each need 3 GPUs");
}

TEST(SweepShares, WhereNoGpusAreNamedJobsAreWhatAllOfThemHaveRoomFor) {
  const auto found = [](int ranks, int jobs, std::vector<int> gpus) {
    return SweepResources{.ranks = ranks, .jobs = jobs, .gpus = std::move(gpus), .has_all_gpus = true};
  };
  const std::vector<int> cores{0, 1, 2, 3, 4, 5, 6, 7};
  // Sixteen cores with one GPU are one job, which has all cores.
  const MachineShares one(found(1, 0, {0}), cores, 100, 9, {1000});
  ASSERT_EQ(one.count(), 1u);
  EXPECT_EQ(one.at(0).cores, cores);
  EXPECT_EQ(one.at(0).device(), "cuda:0");
  const MachineShares pairs(found(2, 0, {0, 1, 2, 3}), cores, 100, 9, {1000, 900, 1100, 1200});
  ASSERT_EQ(pairs.count(), 2u);
  EXPECT_EQ(pairs.at(0).device(), "cuda:2,3");
  EXPECT_EQ(pairs.at(0).gpu_bytes, 1100);
  EXPECT_EQ(pairs.at(1).gpu_bytes, 900);
  EXPECT_EQ(pairs.most_gpu_bytes(), 1100);
  // Ranks share GPUs where there are fewer.
  const MachineShares few(found(3, 0, {0, 1}), cores, 100, 9, {1000, 900});
  ASSERT_EQ(few.count(), 1u);
  EXPECT_EQ(few.at(0).device(), "cuda:0,1");
  EXPECT_EQ(few.at(0).gpu_bytes, 450);
  EXPECT_SAYS(message_of<InputError>([&] {
                MachineShares(found(1, 4, {0, 1}), cores, 100, 9, {1000, 1000});
              }),
              "4 jobs with 1 rank each need 4 GPUs, and 2 are there: each run has its GPUs for itself; 2 jobs at once can be had (--jobs, "
              "resources.jobs)");
}

TEST(SweepShares, ARunHasGpusWithMemoryForIt) {
  const SweepResources resources{.ranks = 1, .jobs = 0, .gpus = {0, 1, 2}, .has_all_gpus = true};
  MachineShares shares(resources, {0, 1, 2}, 100, 9, {50, 1000, 200});
  EXPECT_EQ(shares.at(*shares.take(1, 100)).device(), "cuda:2");
  EXPECT_EQ(shares.at(*shares.take(1, 100)).device(), "cuda:1");
  EXPECT_EQ(shares.take(1, 100), std::nullopt);
  EXPECT_EQ(shares.at(*shares.take(1, 0)).device(), "cuda:0");
  // One run has the GPU with the most.
  const MachineShares single(resources, {0, 1, 2}, 100, 1, {50, 1000, 200});
  ASSERT_EQ(single.count(), 1u);
  EXPECT_EQ(single.at(0).device(), "cuda:1");
}

TEST(SweepRows, AreTheMetricsOfTheRun) {
  const ScratchFolder scratch;
  std::ofstream out(scratch.path("metrics.csv"));
  out << "step,loss,eval_loss,device_peak_bytes,tokens_per_second,step_seconds\n";
  for (int i = 0; i < 40; ++i)
    out << i << "," << 100 - i << "," << (i == 20 ? "3.5" : i == 30 ? "4.5" : "") << "," << 1000 + i << ",10," << (i == 0 ? 3 : 1) << "\n";
  out.close();
  SweepRow row;
  row.run = "lr=1,mode=fo";
  row.values = {{"step.mode", "fo"}, {"optimizer.params.lr", 1}};
  read_metrics(row, scratch.folder());
  EXPECT_EQ(row.steps, 40);
  EXPECT_EQ(row.final_loss, (61 + 62) / 2.0);
  EXPECT_EQ(row.last_loss, 61);
  EXPECT_EQ(row.best_eval_loss, 3.5);
  EXPECT_EQ(row.device_peak_bytes, 1039);
  EXPECT_EQ(row.tokens_per_second, 10);
  row.state = SweepState::Failed;
  row.exit = 1;
  row.error = "a, \"b\"\nc";
  SweepRow other;
  other.run = "seed=2";
  other.state = SweepState::Killed;
  other.values = {{"seed", 2}};
  EXPECT_EQ(runs_csv({row, other}),
            "run,optimizer.params.lr,seed,step.mode,state,device,exit,started,seconds,steps,loss,best_eval_loss,device_peak_bytes,tokens_"
            "per_second,error\n"
            "\"lr=1,mode=fo\",1,,fo,failed,,1,,,40,61.5,3.5,1039,10,\"a, \"\"b\"\"\nc\"\n"
            "seed=2,,2,,killed,,,,,,,,,,\n");
}

TEST(SweepTable, ShowsTheLastLossOfRunsThatGoOnAndOfThoseThatHaveEnded) {
  const ScratchFolder scratch;
  SweepRequest request;
  request.file.output_dir = scratch.folder().parent_path();
  request.file.name = scratch.folder().filename();
  request.planned.resize(2);
  SweepRow done, running;
  done.run = "seed=1";
  done.state = SweepState::Done;
  done.steps = 40;
  done.final_loss = 2;  // the mean of the last two
  done.last_loss = 1.5;
  running.run = "seed=2";
  running.state = SweepState::Running;
  std::filesystem::create_directories(scratch.folder() / "seed=2");
  std::ofstream(scratch.folder() / "seed=2/metrics.csv") << "step,loss,tokens_per_second,step_seconds\n0,9,1,1\n1,3.25,1000,2\n";
  EXPECT_EQ(sweep_table(request, {done, running}, {40, 40}, 1, 10, 100),
            (std::vector<std::string>{"run     state                step last loss   tokens/s     left",
                                      "seed=2  running              2/40    3.2500     1.00 k     1:16",
                                      "seed=1  done                40/40    1.5000                    ",
                                      "1 of 2 done, 1 running | about 1:16 left"}));
}

TEST(LastRow, IsTheLastWholeOne) {
  const ScratchFolder scratch;
  const std::string file = scratch.path("metrics.csv");
  EXPECT_TRUE(last_row(file).empty());
  std::ofstream(file) << "step,loss,optimizer\n";
  EXPECT_TRUE(last_row(file).empty());
  std::ofstream(file, std::ios::app) << "0,2.5,\"a,b\"\n";
  EXPECT_EQ(number_in(last_row(file), "loss"), 2.5);
  EXPECT_EQ(last_row(file).at("optimizer"), "a,b");
  EXPECT_TRUE(std::isnan(number_in(last_row(file), "nowhere")));
  std::ofstream more(file, std::ios::app);
  for (int i = 1; i < 5000; ++i) more << i << "," << i + 0.5 << ",c\n";
  more << "5000,50";
  more.close();
  EXPECT_EQ(number_in(last_row(file), "step"), 4999);
  EXPECT_EQ(number_in(last_row(file), "loss"), 4999.5);
}

class Processes : public ::testing::Test {
 protected:
  int wait(Process& process) {
    for (int i = 0; i < 1000; ++i) {
      if (const std::optional<int> status = process.ended()) return *status;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    process.send_to_group(SIGKILL);
    return -1;
  }
  ProcessRequest shell(const std::string& text) const {
    ProcessRequest out;
    out.command = {"sh", "-c", text};
    out.output = output_;
    return out;
  }
  ScratchFolder scratch_;
  const std::string output_ = scratch_.path("output.txt");
};

TEST_F(Processes, SayWhatTheySayIntoTheirFileAndEndWithTheirStatus) {
  std::ofstream(output_) << "before\n";
  ProcessRequest request = shell("echo $ONE; echo $HOME >&2; cat; exit 7");
  request.environment = {{"ONE", "two words"}, {"HOME", "/here"}};
  Process process(request);
  EXPECT_EQ(wait(process), 7);
  EXPECT_EQ(read_file(output_), "before\ntwo words\n/here\n");
}

TEST_F(Processes, UseTheirCores) {
  ProcessRequest request = shell("taskset -cp $$ | sed 's/.*: //'");
  request.cores = {CoreSet::of_process().back()};
  Process process(request);
  EXPECT_EQ(wait(process), 0);
  EXPECT_EQ(read_file(output_), std::to_string(CoreSet::of_process().back()) + "\n");
}

TEST_F(Processes, ThatCannotStartSayWhy) {
  ProcessRequest request = shell("");
  request.command = {"/nowhere/program"};
  EXPECT_SAYS(message_of<RunError>([&] { const Process process(request); }), "cannot start /nowhere/program: No such file or directory");
  request = shell("");
  request.output = "/nowhere/output.txt";
  EXPECT_SAYS(message_of<RunError>([&] { const Process process(request); }), "cannot write /nowhere/output.txt");
}

TEST_F(Processes, EndBySignalsOfTheirGroup) {
  Process process(shell("trap 'echo told; exit 3' USR1; echo ready; sleep 100 & wait"));
  while (read_file(output_).empty()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(process.ended(), std::nullopt);
  process.send(SIGUSR1);
  EXPECT_EQ(wait(process), 3);
  Process other(shell("sleep 100"));
  other.send_to_group(SIGKILL);
  EXPECT_EQ(wait(other), 128 + SIGKILL);
}

// However their parent ends: here without a word.
TEST_F(Processes, EndWithTheirParent) {
  const pid_t parent = ::fork();
  if (parent == 0) {
    ProcessRequest request = shell("echo $$; exec sleep 100");
    request.signal_of_parents_death = SIGKILL;
    const Process process(request);
    std::string id;
    while (id.find('\n') == std::string::npos) id = read_file(output_);
    ::raise(SIGKILL);
  }
  ::waitpid(parent, nullptr, 0);
  const pid_t child = std::stoi(read_file(output_));
  for (int i = 0; i < 500 && ::kill(child, 0) == 0; ++i) {
    // Whoever has adopted it may not have heard of its end: then it is a zombie.
    std::ifstream status("/proc/" + std::to_string(child) + "/stat");
    const std::string text((std::istreambuf_iterator<char>(status)), {});
    if (text.find(") Z") != std::string::npos) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_NE(::kill(child, 0), 0);
}

}  // namespace
}  // namespace zerostep
