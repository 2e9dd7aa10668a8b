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

TEST(SavedRuns, AnInterruptTellsWhatBecomesOfThem) {
  EXPECT_EQ(interrupt_text(1, 0), "interrupted: the run that goes on is asked to save and stop; once more ends it at once");
  EXPECT_EQ(interrupt_text(2, 0), "interrupted: the runs that go on are asked to save and stop; once more ends them at once");
  EXPECT_EQ(interrupt_text(0, 1),
            "interrupted: the run that goes on is asked to stop; it makes no checkpoints and begins anew at --resume; once more ends it at "
            "once");
  EXPECT_EQ(
      interrupt_text(0, 2),
      "interrupted: the runs that go on are asked to stop; they make no checkpoints and begin anew at --resume; once more ends them at "
      "once");
  EXPECT_EQ(interrupt_text(1, 2),
            "interrupted: of the runs that go on 1 is asked to save and stop, and 2 to stop; they make no checkpoints and begin anew at "
            "--resume; once more ends them at once");
  EXPECT_EQ(interrupt_text(0, 0), "interrupted");
}

}  // namespace
}  // namespace zerostep
