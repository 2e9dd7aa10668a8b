#include <fmt/chrono.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "experiments/records/read_file.h"
#include "experiments/sweep/journal.h"
#include "tests/experiments/support/run_sweep.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using testing::RunSweep;

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

}  // namespace
}  // namespace zerostep
