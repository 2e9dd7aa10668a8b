#include "experiments/sweep/saved_runs.h"

#include <gtest/gtest.h>

namespace zerostep {
namespace {

// Of runs named a, b, ... of so many predicted seconds each; a negative number: of none.
SweepRequest request_of(const std::vector<double>& seconds) {
  SweepRequest out;
  for (double predicted : seconds) {
    out.points.emplace_back().name = std::string(1, static_cast<char>('a' + out.planned.size()));
    PlannedRun& planned = out.planned.emplace_back();
    planned.steps = 4;
    if (predicted >= 0) planned.seconds = predicted;
  }
  return out;
}

TEST(SavedRuns, LongOnesWithoutCheckpointsAreNamed) {
  SweepRequest request = request_of({3600, 299, 301, -1, 3600, 3600, 3600, 3600});
  std::vector<SweepRow> rows(request.points.size());
  request.points[4].loaded.config.run.checkpoint_interval = 10;
  request.points[5].loaded.config.run.keep_best = true;
  request.planned[6].refusal = "does not fit";
  rows[7].state = SweepState::Done;
  EXPECT_EQ(
      unsaved_runs_text(request, rows),
      "warning: 2 runs of more than 5 minutes make no checkpoints (a, c): an interrupted run begins anew; set run.checkpoint_interval");
  request.points[2].loaded.config.run.checkpoint_interval = 1;
  EXPECT_EQ(unsaved_runs_text(request, rows),
            "warning: 1 run of more than 5 minutes makes no checkpoints (a): an interrupted run begins anew; set run.checkpoint_interval");
  request.file.search.emplace();  // its runs go on from rung to rung
  EXPECT_EQ(unsaved_runs_text(request, rows), "");
}

TEST(SavedRuns, GoOnGoBackOrBeginAnewAfterAStop) {
  SweepRequest request = request_of({1, 1, 1, 1});
  request.points[1].loaded.config.run.checkpoint_interval = request.points[3].loaded.config.run.checkpoint_interval = 10;
  request.points[2].loaded.config.run.keep_best = request.points[3].loaded.config.run.keep_best = true;
  const auto all = [&] {
    std::vector<AfterStop> out;
    for (size_t i = 0; i < request.points.size(); ++i) out.push_back(after_stop(request, i));
    return out;
  };
  EXPECT_EQ(all(), (std::vector{AfterStop::BeginsAnew, AfterStop::GoesOn, AfterStop::GoesBack, AfterStop::GoesOn}));
  request.file.search.emplace();
  EXPECT_EQ(all(), std::vector(4, AfterStop::GoesOn));
}

TEST(SavedRuns, AnInterruptTellsWhatBecomesOfThem) {
  const auto text = [](size_t saved, size_t anew, size_t back = 0) {
    std::vector<AfterStop> runs(saved, AfterStop::GoesOn);
    runs.insert(runs.end(), anew, AfterStop::BeginsAnew);
    runs.insert(runs.end(), back, AfterStop::GoesBack);
    return interrupt_text(runs);
  };
  EXPECT_EQ(text(1, 0), "interrupted: the run that goes on is asked to save and stop; once more ends it at once");
  EXPECT_EQ(text(2, 0), "interrupted: the runs that go on are asked to save and stop; once more ends them at once");
  EXPECT_EQ(text(0, 1),
            "interrupted: the run that goes on is asked to stop; it makes no checkpoints and begins anew at --resume; once more ends it at "
            "once");
  EXPECT_EQ(
      text(0, 2),
      "interrupted: the runs that go on are asked to stop; they make no checkpoints and begin anew at --resume; once more ends them at "
      "once");
  EXPECT_EQ(text(1, 2),
            "interrupted: of the runs that go on 1 is asked to save and stop, and 2 to stop; they make no checkpoints and begin anew at "
            "--resume; once more ends them at once");
  EXPECT_EQ(
      text(0, 0, 1),
      "interrupted: the run that goes on is asked to stop; it goes back at --resume to the checkpoint of its best evaluation, or begins "
      "anew where there was none; once more ends it at once");
  EXPECT_EQ(
      text(0, 0, 2),
      "interrupted: the runs that go on are asked to stop; they go back at --resume to the checkpoint of their best evaluation, or begin "
      "anew where there was none; once more ends them at once");
  EXPECT_EQ(
      text(1, 1, 2),
      "interrupted: of the runs that go on 1 is asked to save and stop, and 3 to stop; 2 go back at --resume to the checkpoint of their "
      "best evaluation, or begin anew where there was none; 1 makes no checkpoints and begins anew at --resume; once more ends them at "
      "once");
  EXPECT_EQ(text(0, 0), "interrupted");
}

}  // namespace
}  // namespace zerostep
