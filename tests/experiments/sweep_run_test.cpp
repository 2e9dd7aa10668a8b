#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "experiments/records/run_record.h"
#include "experiments/sweep/journal.h"
#include "experiments/sweep/search.h"
#include "experiments/sweep/sweep.h"
#include "tests/experiments/support/run_sweep.h"
#include "tests/support/expect_says.h"

namespace zerostep {
namespace {

namespace fs = std::filesystem;
using testing::RunSweep;

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
