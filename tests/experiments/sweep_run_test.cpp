#include <fmt/chrono.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "base/core_set.h"
#include "base/error.h"
#include "experiments/records/read_file.h"
#include "experiments/records/run_record.h"
#include "experiments/sweep/journal.h"
#include "experiments/sweep/search.h"
#include "experiments/sweep/sweep.h"
#include "runtime/report/csv_cells.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using testing::message_of;

constexpr const char* kBase = R"({"train_batch_size": 4, "seed": 3, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
  "model": {"family": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 32, "vocab_size": 257},
  "data": {"train": "text.txt", "tokenizer": "byte", "sequence_length": 16}, "run": {"steps": 4}})";

// Keeps what it is told.
class Lines : public SweepScreen {
 public:
  void line(const std::string& text) override { text_ += text + "\n"; }
  void show(const std::vector<SweepRow>&, const std::vector<int64_t>&) override {}
  void finish(const std::vector<SweepRow>&, const std::vector<int64_t>&) override {}
  std::string text_;
};

// Sweeps whose program is a script, which knows $name, $folder and $steps of its run.
class RunSweep : public ::testing::Test {
 protected:
  // Points of a file with these blocks beside its base; every run's steps are 4.
  SweepRequest request(const std::string& blocks) {
    const std::string path = scratch_.path("many.json");
    std::ofstream(path) << "{\"output_dir\": \"" << scratch_.folder().string() << "\", \"base\": " << kBase << ", " << blocks << "}";
    SweepRequest out;
    out.file = read_sweep_file(path);
    out.points = points_of(out.file, {"many.json: base", kBase}, {});
    out.planned.resize(out.points.size());
    for (PlannedRun& planned : out.planned) planned.steps = 4;
    out.program = scratch_.path("program");
    out.memory_bytes = int64_t{1} << 40;
    return out;
  }
  void script(const std::string& name, const std::string& text) const {
    std::ofstream(scratch_.path(name)) << text << "\n";
    fs::permissions(scratch_.path(name), fs::perms::owner_all);
  }
  void program(const std::string& text) const {
    script("program", R"(#!/bin/bash
steps=4
while (($#)); do
  case $1 in
    run.name=*) name=${1#run.name=}; name=${name//\"/} ;;
    run.output_dir=*) sweep=${1#run.output_dir=}; sweep=${sweep//\"/} ;;
    --stop-after) steps=$2; shift ;;
  esac
  shift
done
folder=$sweep/$name
# Its loss is $loss at every step.
train() {
  echo step,loss >"$folder/metrics.csv"
  for ((step = 0; step < steps; ++step)); do echo "$step,$loss" >>"$folder/metrics.csv"; done
  if ((steps == 4)); then echo "4 steps done in 1 s"; else echo "stopped by --stop-after after $steps of 4 steps"; fi >"$folder/log.txt"
}
)" + text);
  }
  // A run that has left so many rows.
  void make(const std::string& run, int rows, double loss, const std::string& log) const {
    const fs::path folder = scratch_.folder() / "many" / run;
    fs::create_directories(folder);
    std::ofstream(folder / "log.txt") << log;
    std::ofstream metrics(folder / "metrics.csv");
    metrics << "step,loss\n";
    for (int i = 0; i < rows; ++i) metrics << i << "," << loss << "\n";
  }
  // runs.csv: cells by run and column.
  std::map<std::string, std::map<std::string, std::string>> rows() const {
    std::istringstream lines(read_file(scratch_.folder() / "many/runs.csv"));
    std::map<std::string, std::map<std::string, std::string>> out;
    std::string line;
    std::getline(lines, line);
    const std::vector<std::string> names = csv_cells(line);
    while (std::getline(lines, line)) {
      const std::vector<std::string> cells = csv_cells(line);
      for (size_t i = 0; i < names.size(); ++i) out[cells.at(0)][names[i]] = cells.at(i);
    }
    return out;
  }
  std::map<std::string, FormerRun> journal() const { return Journal::read(scratch_.folder() / "many" / Journal::kFile); }

  const ScratchFolder scratch_;
  Lines screen_;
};

TEST_F(RunSweep, TheJournalKnowsOfARunBeforeItSpeaks) {
  program(R"(grep -q '"event":"start","run":"'$name'"' "$sweep/journal.jsonl" || { echo "zerostep: unheard"; exit 1; }
echo "zerostep: it is broken"; exit 1)");
  const SweepOutcome done = run_sweep(request(R"("repeat": {"seed": [1, 2, 3, 4]}, "resources": {"jobs": 2})"), screen_);
  ASSERT_EQ(done.count(SweepState::Failed), 4u);
  for (const SweepRow& row : done.rows) {
    EXPECT_EQ(row.error, "it is broken");
    EXPECT_EQ(row.started, journal().at(row.run).row.started);
    EXPECT_GT(row.seconds, 0);
  }
}

TEST_F(RunSweep, RunsThatAreNotAskedForKeepTheirRows) {
  program("loss=${name#seed=}; ((loss != 3)) || exit 1; train");
  ASSERT_EQ(run_sweep(request(R"("repeat": {"seed": [1, 2, 3]})"), screen_).count(SweepState::Done), 2u);
  const auto before = rows();
  // One more point; one of the former is a point no more, and one is left out.
  SweepRequest again = request(R"("repeat": {"seed": [4, 1, 3, 5]})");
  again.options.resumes = true;
  again.others = {again.points[2], again.points[3]};
  again.points.resize(2);
  again.planned.resize(2);
  const SweepOutcome done = run_sweep(again, screen_);
  EXPECT_EQ(done.rows.size(), 2u);
  EXPECT_EQ(done.count(SweepState::Done), 2u);
  ASSERT_EQ(done.others.size(), 3u);
  auto after = rows();
  EXPECT_EQ(after.size(), 5u);
  for (const char* run : {"seed=1", "seed=2", "seed=3"}) {
    auto was = before.at(run), is = after.at(run);
    EXPECT_EQ(was, is) << run;
  }
  EXPECT_EQ(after.at("seed=4").at("loss"), "4");
  EXPECT_EQ(after.at("seed=5").at("state"), "queued");
  EXPECT_EQ(after.at("seed=5").at("seed"), "5");
}

TEST_F(RunSweep, ARunOfASearchWhoseTurnHasPassedIsDone) {
  const std::string blocks = R"("repeat": {"seed": [1, 2]}, "search": {"rungs": [2, 4], "keep": 0.5})";
  // Both have the steps of the first rung; the sweep was killed before it heard so of the second, which is the worse.
  make("seed=1", 2, 1, "stopped by --stop-after after 2 of 4 steps\n");
  make("seed=2", 2, 2, "stopped by SIGINT after 2 of 4 steps\n");
  {
    Journal former((scratch_.folder() / "many" / Journal::kFile).string());
    former.begin("many", 2, false);
    SweepRow row;
    row.run = "seed=1";
    former.start(row, {});
    row.state = SweepState::Done;
    row.steps = 2;
    former.end(row);
    row = {};
    row.run = "seed=2";
    former.start(row, {});
  }
  program("loss=1; train");
  SweepRequest again = request(blocks);
  again.options.resumes = true;
  const SweepOutcome done = run_sweep(again, screen_);
  EXPECT_EQ(done.count(SweepState::Done), 2u);
  EXPECT_EQ(done.rows[0].steps, 4);
  EXPECT_EQ(done.rows[1].steps, 2);
  EXPECT_EQ(rows().at("seed=2").at("state"), "done");
  EXPECT_EQ(journal().at("seed=2").row.state, SweepState::Done);
  EXPECT_EQ(journal().at("seed=2").row.steps, 2);
}

TEST_F(RunSweep, ASearchTellsItsRungsAndTheBest) {
  program("loss=${name#seed=}; train");
  ASSERT_EQ(
      run_sweep(request(R"("repeat": {"seed": [3, 1, 2]}, "resources": {"jobs": 1}, "search": {"rungs": [2, 4], "keep": 0.5})"), screen_)
          .count(SweepState::Done),
      3u);
  EXPECT_SAYS(screen_.text_, "rung 1 of 2, to 2 steps: 3 runs take part\n");
  EXPECT_SAYS(screen_.text_, "rung 1 of 2 [3/3] seed=2: done");
  EXPECT_SAYS(screen_.text_, "rung 2 of 2, to 4 steps: 2 runs go on: seed=1, seed=2\n");
  EXPECT_SAYS(screen_.text_, "rung 2 of 2 [2/2] seed=2: done");
  EXPECT_SAYS(screen_.text_, "the best of the search is seed=1: its loss after 4 steps is 1\n");
}

TEST_F(RunSweep, LinesHaveTheTimeThatIsLeft) {
  program("loss=${name#seed=}; train");
  SweepRequest several = request(R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 1})");
  for (PlannedRun& planned : several.planned) planned.seconds = 3600;
  for (SweepPoint& point : several.points) point.loaded.config.run.checkpoint_interval = 1;
  ASSERT_EQ(run_sweep(several, screen_).count(SweepState::Done), 3u);
  // The script takes no time, so that what is left is that of the runs that wait once its rows are seen.
  EXPECT_TRUE(screen_.text_.starts_with("seed=1: started; about 2:00:00 left\n") ||
              screen_.text_.starts_with("seed=1: started; about 3:00:00 left\n"))
      << screen_.text_;
}

TEST_F(RunSweep, LongRunsWithoutCheckpointsAreNamedAtTheStart) {
  program("loss=1; train");
  SweepRequest several = request(R"("repeat": {"seed": [1, 2]}, "resources": {"jobs": 1})");
  several.planned[1].seconds = 3600;
  ASSERT_EQ(run_sweep(several, screen_).count(SweepState::Done), 2u);
  EXPECT_TRUE(screen_.text_.starts_with("warning: 1 run of more than 5 minutes makes no checkpoints (seed=2): ")) << screen_.text_;
}

TEST_F(RunSweep, WhatAnInterruptOfTheSweepStopsSaysSo) {
  program(R"(trap 'train; echo "stopped by SIGUSR1 after 1 of 4 steps" >"$folder/log.txt"; exit 138' USR1
loss=1; steps=1; touch "$folder/ready"; while :; do sleep 0.01; done)");
  SweepRequest one = request(R"("repeat": {"seed": [1]})");
  one.interrupts = [&] { return fs::exists(scratch_.folder() / "many/seed=1/ready") ? 1 : 0; };
  ASSERT_EQ(run_sweep(one, screen_).count(SweepState::Interrupted), 1u);
  const RunRecord record = read_run(scratch_.folder() / "many/seed=1");
  EXPECT_EQ(record.state, RunState::Interrupted);
  EXPECT_EQ(record.why, "interrupted with its sweep");
  EXPECT_SAYS(screen_.text_, "interrupted: the run that goes on is asked to stop; it makes no checkpoints and begins anew at --resume;");
}

// A job that waits until it is cancelled.
TEST_F(RunSweep, TheWaitForSlurmIsNoTimeOfTheRun) {
  const std::string path = std::getenv("PATH"), cancelled = scratch_.path("cancelled");
  script("sbatch", "#!/bin/sh\necho 5");
  script("squeue", "#!/bin/sh\nif [ -e " + cancelled + " ]; then echo 'Invalid job id' >&2; exit 1; fi\necho 0 PD");
  script("scancel", "#!/bin/sh\ntouch " + cancelled);
  ::setenv("PATH", (scratch_.folder().string() + ":" + path).c_str(), 1);
  SweepRequest waiting = request(R"("repeat": {"seed": [1]}, "resources": {"executor": "slurm"})");
  const auto begin = std::chrono::steady_clock::now();
  waiting.interrupts = [&] { return std::chrono::steady_clock::now() - begin > std::chrono::milliseconds(300) ? 1 : 0; };
  const SweepOutcome done = run_sweep(waiting, screen_);
  ::setenv("PATH", path.c_str(), 1);
  EXPECT_EQ(done.rows[0].state, SweepState::Interrupted);
  EXPECT_EQ(done.rows[0].seconds, 0);
  EXPECT_EQ(done.rows[0].started, "");
  EXPECT_EQ(done.rows[0].device, "slurm:5_0");
  EXPECT_EQ(journal().at("seed=1").row.started, "");
  EXPECT_EQ(journal().at("seed=1").row.device, "slurm:5_0");
  EXPECT_EQ(Journal::submitted_jobs(scratch_.folder() / "many" / Journal::kFile), std::vector<std::string>{"5"});
}

TEST_F(RunSweep, RunsOnGpusHaveThemForThemselves) {
  // Each says which GPUs it sees, and ends when all that are started have said so.
  program(
      R"(echo "$CUDA_VISIBLE_DEVICES" >"$folder/seen"; loss=1; until [ $(ls "$sweep"/*/seen | wc -l) = 3 ]; do sleep 0.01; done; train)");
  SweepRequest all = request(R"("repeat": {"seed": [1, 2, 3, 4]})");
  all.file.resources.gpus = {0, 1, 2};
  all.file.resources.has_all_gpus = true;
  all.gpu_bytes = {100, 300, 200};
  for (size_t i = 0; i < 4; ++i) {
    PlannedRun& planned = all.planned[i];
    planned.device_is_host = i == 3;
    planned.gpu_bytes = std::array<int64_t, 4>{250, 301, 150, 0}[i];
  }
  const SweepOutcome done = run_sweep(all, screen_);
  ASSERT_EQ(done.count(SweepState::Done), 3u) << screen_.text_;
  EXPECT_EQ(done.rows[0].device, "cuda:1");
  EXPECT_EQ(done.rows[2].device, "cuda:2");
  EXPECT_EQ(done.rows[3].device, "cpu");
  EXPECT_EQ(read_file(scratch_.folder() / "many/seed=1/seen"), "1\n");
  EXPECT_EQ(read_file(scratch_.folder() / "many/seed=3/seen"), "2\n");
  EXPECT_EQ(done.rows[1].state, SweepState::Failed);
  EXPECT_SAYS(done.rows[1].error,
              "each rank needs 301 B of a GPU's memory; 300 B are free: 1 B are missing. End other programs on the GPUs,");
}

TEST_F(RunSweep, TheLongestBeginFirst) {
  program("loss=1; train");
  const auto order = [&](const std::string& name, const std::vector<std::optional<double>>& seconds, const std::vector<double>& flops) {
    SweepRequest several = request("\"name\": \"" + name + R"(", "repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 1})");
    for (size_t i = 0; i < 3; ++i) {
      several.planned[i].seconds = seconds[i];
      several.planned[i].flops = flops[i];
    }
    screen_.text_.clear();
    EXPECT_EQ(run_sweep(several, screen_).count(SweepState::Done), 3u);
    std::string out;
    for (size_t at = screen_.text_.find(": started"); at != std::string::npos; at = screen_.text_.find(": started", at + 1))
      out += screen_.text_[at - 1];
    return out;
  };
  EXPECT_EQ(order("timed", {10, 30, 20}, {3, 1, 2}), "231");
  EXPECT_EQ(order("counted", {{}, {}, {}}, {1, 2, 3}), "321");
}

// Of three runs for two jobs the second one has no room beside the first, and the third has.
TEST_F(RunSweep, ARunWaitsUntilAnotherHasGivenItsMemoryOrDiskBack) {
  program(R"(case $name in
  seed=1) until [[ -e $sweep/seed=3/log.txt ]]; do sleep 0.01; done ;;
  seed=2) [[ -e $sweep/seed=1/log.txt ]] || { echo "zerostep: it has no room"; exit 1; } ;;
esac
loss=1; train)");
  for (const bool is_disk : {false, true}) {
    SweepRequest three =
        request(std::string(is_disk ? R"("name": "disk", )" : "") + R"("repeat": {"seed": [1, 2, 3]}, "resources": {"jobs": 2})");
    three.process_bytes = is_disk ? 0 : 50;
    three.memory_bytes = 1000;
    for (size_t i = 0; i < 3; ++i) {
      PlannedRun& planned = three.planned[i];
      planned.seconds = 30.0 - 10.0 * static_cast<double>(i);
      const int64_t bytes = i < 2 ? 501 : 499;
      if (is_disk)
        planned.disks = {{1, "some.nvme_path", "/other", bytes, 5000}, {7, "offload_param.nvme_path", "/fast", bytes, 1000}};
      else
        planned.host_bytes = bytes - 50;
    }
    EXPECT_EQ(run_sweep(three, screen_).count(SweepState::Done), 3u) << screen_.text_;
  }
}

TEST_F(RunSweep, ARunThatCannotFitSaysTheBytesThatAreMissing) {
  program("loss=1; train");
  constexpr int64_t kMiB = 1 << 20;
  SweepRequest four = request(R"("repeat": {"seed": [1, 2, 3, 4]}, "resources": {"ranks": 2, "jobs": 1})");
  four.process_bytes = 1 * kMiB;
  four.memory_bytes = 10 * kMiB;
  four.planned[0].host_bytes = 3 * kMiB;  // of each of two ranks
  four.planned[0].device_bytes = 3 * kMiB;
  four.planned[1].disks = {{7, "zero_optimization.offload_param.nvme_path", "/fast", 30 * kMiB, 20 * kMiB}};
  four.planned[2].refusal = "run.device_memory: a rank needs 7 B: 3 B are missing";
  four.planned[3].device_bytes = 100 * kMiB;  // of a GPU
  four.planned[3].device_is_host = false;
  four.options.stops_on_failure = true;
  const SweepOutcome done = run_sweep(four, screen_);
  EXPECT_EQ(done.count(SweepState::Failed), 3u);
  EXPECT_SAYS(
      rows().at("seed=1").at("error"),
      "needs 14.0 MiB of this machine's memory, its processes' own 2.00 MiB among them; 10.0 MiB are free: 4.00 MiB are missing. End "
      "other programs that hold memory, ");
  EXPECT_EQ(
      rows().at("seed=2").at("error"),
      "zero_optimization.offload_param.nvme_path: no space in /fast: 2 ranks of this host need 30.0 MiB (31457280 bytes) on that disk, "
      "20.0 MiB are free: 10.0 MiB are missing. Make space, or name a folder on another disk");
  EXPECT_EQ(rows().at("seed=3").at("error"), four.planned[2].refusal);
  EXPECT_EQ(rows().at("seed=3").at("exit"), "2");
  EXPECT_EQ(rows().at("seed=4").at("state"), "queued");
}

// As the processes see them, through mpirun for two ranks.
TEST_F(RunSweep, RunsHaveTheThreadsOfTheirCoresAndBindThemNotAgain) {
  program("echo threads $OMP_NUM_THREADS; loss=1; train");
  script("mpirun", "#!/bin/bash\necho mpirun \"$@\"\nwhile [[ $1 != */program ]]; do shift; done\nexec \"$@\"");
  const std::string path = std::getenv("PATH");
  const char* const given = std::getenv("OMP_NUM_THREADS");
  const std::string threads_before = given == nullptr ? "" : given;
  ::setenv("PATH", (scratch_.folder().string() + ":" + path).c_str(), 1);
  const auto cores = static_cast<int>(CoreSet::of_process().size());
  const auto said = [&](const std::string& name, int ranks, const char* asked) {
    if (asked == nullptr) ::unsetenv("OMP_NUM_THREADS");
    if (asked != nullptr) ::setenv("OMP_NUM_THREADS", asked, 1);
    const SweepRequest one =
        request(fmt::format(R"("name": "{}", "repeat": {{"seed": [1]}}, "resources": {{"ranks": {}, "jobs": 1}})", name, ranks));
    EXPECT_EQ(run_sweep(one, screen_).count(SweepState::Done), 1u) << screen_.text_;
    return read_file(scratch_.folder() / name / "seed=1/output.txt");
  };
  EXPECT_SAYS(said("one", 1, nullptr), fmt::format("threads {}\n", cores));
  EXPECT_SAYS(said("more", 1, "999"), fmt::format("threads {}\n", cores));
  EXPECT_SAYS(said("fewer", 1, "1"), "threads 1\n");
  const std::string two = said("two", 2, nullptr);
  EXPECT_SAYS(two, " --oversubscribe --bind-to none -np 2 " + scratch_.path("program") + " train ");
  EXPECT_SAYS(two, fmt::format("threads {}\n", std::max(1, cores / 2)));
  ::setenv("PATH", path.c_str(), 1);
  if (given != nullptr) ::setenv("OMP_NUM_THREADS", threads_before.c_str(), 1);
}

TEST_F(RunSweep, WhatBeginsAnewSaysWhyItHasNoCheckpoint) {
  program("loss=1; train");
  const std::string blocks = R"("grid": {"run.checkpoint_interval": [0, 2, 300]})";
  for (const bool resumes : {false, true}) {
    SweepRequest three = request(blocks);
    three.options.resumes = resumes;
    if (resumes)
      for (const SweepPoint& point : three.points) make(point.name, 3, 1, "");
    screen_.text_.clear();
    if (resumes) {
      // As a sweep leaves it that was killed, and so its runs.
      Journal journal((scratch_.folder() / "many" / Journal::kFile).string());
      for (const SweepPoint& point : three.points) {
        SweepRow row;
        row.run = point.name;
        journal.start(row, {});
      }
    }
    ASSERT_EQ(run_sweep(three, screen_).count(SweepState::Done), 3u);
  }
  EXPECT_SAYS(screen_.text_, "=0: begins anew, without a checkpoint of its 3 steps (run.checkpoint_interval makes some)\n");
  EXPECT_SAYS(screen_.text_, "=2: begins anew, without a checkpoint of its 3 steps (none is there: run.checkpoint_interval is 2)\n");
  EXPECT_SAYS(screen_.text_, "=300: begins anew, without a checkpoint of its 3 steps (none was due yet: run.checkpoint_interval is 300)\n");
}

// Its journal knows when it began, its table that it went on for ninety seconds, to which the clock may have added a few.
TEST_F(RunSweep, TheTimeBeforeItsSweepWasKilledIsTimeOfTheRun) {
  program("loss=1; train");
  make("seed=1", 1, 1, "");
  {
    Journal journal((scratch_.folder() / "many" / Journal::kFile).string());
    journal.begin("many", 1, false);
    SweepRow row;
    row.run = "seed=1";
    journal.start(row, {});
    const std::string began = journal.running("seed=1");
    const std::time_t last = std::time(nullptr) + 92;
    std::ofstream(scratch_.folder() / "many/seed=1/metrics.csv") << "timestamp,step,loss\n"
                                                                 << began << ",0,1\n"
                                                                 << fmt::format("{:%Y-%m-%dT%H:%M:%S}.000Z", fmt::gmtime(last)) << ",1,1\n";
  }
  SweepRequest again = request(R"("repeat": {"seed": [1]})");
  again.options.resumes = true;
  const SweepOutcome done = run_sweep(again, screen_);
  ASSERT_EQ(done.count(SweepState::Done), 1u);
  EXPECT_GT(done.rows[0].seconds, 90);
  EXPECT_LT(done.rows[0].seconds, 130);
  EXPECT_EQ(journal().at("seed=1").row.seconds, done.rows[0].seconds);
  EXPECT_SAYS(read_file(scratch_.folder() / "many" / Journal::kFile), R"("device":"cpu","seconds":9)");
}

TEST_F(RunSweep, ASearchReadsAMetricOnce) {
  make("a", 2, 1, "");
  make("b", 2, 2, "");
  SweepRow a, b;
  a.run = "a";
  b.run = "b";
  a.steps = b.steps = 2;
  using Next = std::vector<std::optional<int64_t>>;
  const SweepSearch halving{.metric = "loss", .rungs = {2, 4}, .keep = 0.5};
  Search search(halving, scratch_.folder() / "many");
  EXPECT_EQ(search.next({a, b}), (Next{4, {}}));
  // What the files say at a rung does not change; another search reads them anew.
  make("a", 4, 3, "");
  EXPECT_EQ(search.next({a, b}), (Next{4, {}}));
  EXPECT_EQ(Search(halving, scratch_.folder() / "many").next({a, b}), (Next{{}, 4}));
  fs::remove_all(scratch_.folder() / "many");
  EXPECT_EQ(search.next({a, b}), (Next{4, {}}));
}

}  // namespace
}  // namespace zerostep
