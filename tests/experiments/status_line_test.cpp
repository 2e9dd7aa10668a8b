#include "experiments/watch/status_line.h"

#include <gtest/gtest.h>

#include "runtime/report/columns.h"
#include "tests/support/expect_says.h"

namespace zerostep::testing {
namespace {

TEST(StatusLine, KeepsOnANarrowTerminalWhatMattersMost) {
  RunStatus s;
  s.name = "mode=zo,seed=1";
  s.state = RunState::Running;
  s.step = 2;
  s.total = 10;
  s.losses = {5.5, 5, 4};
  s.last_loss = 4;
  s.eval_loss = 4.5;
  s.tokens_per_second = 333;
  s.step_seconds = 90;
  s.seconds_left = 7 * 90;
  s.seconds_since_row = 312;
  s.device_peak_bytes = 1024;
  s.planned_bytes = 2048;
  s.load = {1, 0.5, 4096};
  const std::string first = "mode=zo,seed=1 | running     | NO ROW for 5:12 | step 3/10 | last loss 4.0000",
                    whole = first +
                            " █▆▁ | evaluation 4.5000 | 333 tokens/s | 10:30 left | 1.00 KiB of 2.00 KiB planned | 0.5 cores, 4.00 KiB "
                            "resident";
  EXPECT_EQ(status_line(s, 0), whole);
  EXPECT_EQ(status_line(s, 0, columns_of_text(whole)), whole);
  for (const char* line : {" █▆▁ | evaluation 4.5000 | 333 tokens/s | 10:30 left | 1.00 KiB of 2.00 KiB planned",
                           " █▆▁ | evaluation 4.5000 | 333 tokens/s | 10:30 left", " | evaluation 4.5000 | 333 tokens/s | 10:30 left",
                           " | evaluation 4.5000 | 10:30 left", " | 10:30 left", ""}) {
    const std::string expected = first + line;
    EXPECT_EQ(status_line(s, 0, columns_of_text(expected)), expected);
    if (*line != '\0') {
      EXPECT_NE(status_line(s, 0, columns_of_text(expected) - 1), expected);
    }
  }
  EXPECT_EQ(status_line(s, 20, 76), "mode=zo,seed=1 | running | NO ROW for 5:12 | step 3/10 | last loss 4.0000");
  EXPECT_EQ(status_line(s, 20, 50), "mode=zo,seed=1 | running | NO ROW for 5:12 | step~");
  EXPECT_EQ(status_line(s, 0, 30), "mode=zo,seed=1 | running | NO~");
  s.state = RunState::Failed;
  s.seconds_left = RunStatus::kUnknown;
  s.why = "a disk is full";
  EXPECT_SAYS(status_line(s, 0, 90), "last loss 4.0000 | a disk is full");
}

}  // namespace
}  // namespace zerostep::testing
