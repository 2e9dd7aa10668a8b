#include <gtest/gtest.h>

#include "runtime/report/clip_watch.h"
#include "runtime/report/comms_report.h"
#include "runtime/report/progress.h"
#include "runtime/report/step_breakdown.h"

namespace zerostep {
namespace {

TEST(ProgressLine, ShowsStepLossSpeedMemoryAndTimeLeft) {
  Progress progress(200, false);
  for (int64_t s = 0; s < 120; ++s) progress.add({s, 2.34116, 0.8701, 3e-4, 1, false, 0.5, 2048, int64_t{3} << 27});
  EXPECT_EQ(progress.line(), "step 120/200 | loss 2.3412 | 40 s left | 4.10 k tokens/s | 384 MiB | lr 3.00e-04 | grad 0.87");
  EXPECT_NEAR(progress.eta_seconds(), 40, 1e-9);
}

TEST(ProgressLine, TellsTheLastLossOfEachDataSet) {
  Progress progress(10, false);
  const auto add = [&](int64_t step, std::optional<double> loss, std::optional<double> bp_loss) {
    progress.add({step, loss, 1, 1e-3, 1, false, 1, 10, 0, bp_loss});
    return progress.line().substr(0, progress.line().find(" left"));
  };
  EXPECT_EQ(add(0, std::nullopt, 0.25), "step 1/10 | bp loss 0.2500 | 9.0 s");
  EXPECT_EQ(add(1, 5.5, std::nullopt), "step 2/10 | loss 5.5000 | bp loss 0.2500 | 8.0 s");
  EXPECT_EQ(add(2, std::nullopt, 0.125), "step 3/10 | loss 5.5000 | bp loss 0.1250 | 7.0 s");
  EXPECT_EQ(add(3, 5.25, 0.0625), "step 4/10 | loss 5.2500 | bp loss 0.0625 | 6.0 s");
}

TEST(ProgressLine, SpeedForgetsTheSlowFirstStep) {
  Progress progress(10, false);
  progress.add({0, 1, 1, 1, 1, false, 100, 1000, 0});
  EXPECT_NEAR(progress.tokens_per_second(), 10, 1e-9);
  progress.add({1, 1, 1, 1, 1, false, 1, 1000, 0});
  EXPECT_NEAR(progress.tokens_per_second(), 1000, 1e-9);
  EXPECT_NEAR(progress.eta_seconds(), 8, 1e-9);
}

TEST(ProgressLine, TheLastStepIsDoneAndSkippedStepsSaySo) {
  Progress progress(1, true);
  progress.add({0, 1, 1, 1e-3, 1024, true, 1, 10, 0});
  EXPECT_NE(progress.line().find("| done |"), std::string::npos) << progress.line();
  EXPECT_NE(progress.line().find("| scale 1024 | skipped"), std::string::npos) << progress.line();
  EXPECT_EQ(progress.skipped(), 1);
}

TEST(ProgressLine, IsDueEverySoManyStepsAtTheEndAndOnceEarly) {
  const auto due = [](double seconds, int64_t first, int64_t total) {
    Progress progress(total, false);
    std::vector<int64_t> out;
    for (int64_t s = first; s < total; ++s) {
      progress.add({s, 1, 1, 1, 1, false, seconds, 10, 0});
      if (progress.due(10)) out.push_back(s + 1);
    }
    return out;
  };
  using Steps = std::vector<int64_t>;
  EXPECT_EQ(due(0.5, 0, 25), (Steps{10, 20, 25}));
  EXPECT_EQ(due(4, 0, 25), (Steps{3, 10, 20, 25}));
  EXPECT_EQ(due(60, 0, 12), (Steps{1, 10, 12}));
  EXPECT_EQ(due(60, 19, 31), (Steps{20, 30, 31}));
}

TEST(ClipWatch, SpeaksOnceAndOnlyWhereEveryOneOfTheFirstStepsWasCut) {
  for (const double last : {0.099, 0.1}) {
    ClipWatch watch;
    for (int step = 0; step < 19; ++step) EXPECT_FALSE(watch.add(20 + step, 1.0 / (20 + step)));
    const auto cut = watch.add(1 / last, last);
    ASSERT_EQ(cut.has_value(), last < 0.1);
    for (int step = 0; step < 100; ++step) EXPECT_FALSE(watch.add(1000, 0.001));
    if (!cut) continue;
    EXPECT_EQ(clip_warning(*cut, 1.0, false),
              "gradient_clipping 1 cut the first 20 estimates to between 0.026 and 0.099 of themselves (norms 10.1 to 38): an estimate is "
              "about sqrt(parameters) times as long as a gradient. A larger gradient_clipping, or 0, leaves them as they are");
    EXPECT_EQ(clip_warning(*cut, 1.0, true),
              "gradient_clipping 1 cut the first 20 gradients to between 0.026 and 0.099 of themselves (norms 10.1 to 38). A larger "
              "gradient_clipping, or 0, leaves them as they are");
  }
}

TEST(Breakdown, GivesTheMeanStepAndStartsOver) {
  StepBreakdown breakdown;
  StepTimers timers;
  timers.forward = 0.010;
  timers.backward = 0.020;
  breakdown.add(timers, 0.05);
  timers.forward = 0.030;
  breakdown.add(timers, 0.07);
  EXPECT_EQ(breakdown.take(),
            "time (ms) | data 0.00 | forward 20.00 | backward 20.00 | wait 0.00 | reduce 0.00 | scalars 0.00 | update 0.00 | step 60.00");
  EXPECT_NE(breakdown.take().find("step 0.00"), std::string::npos);
}

TEST(CommsReport, SumsByOperation) {
  CommCounters before, after;
  before.all_gather = {2, 100, 400, 0.5};
  after.all_gather = {4, 300, 1200, 0.502};
  after.scalars = {1, 3, 24, 0.001};
  after.exchange = {1, 5, 10, 0.003};
  EXPECT_EQ(comms_of_step(before, after),
            "comm | all_gather 2 x, 800 B, 2.00 ms, 0.00 GB/s | exchange 1 x, 10 B, 3.00 ms, 0.00 GB/s | all_reduce_scalars 1 x, 24 B, "
            "1.00 ms, 0.00 GB/s");
  EXPECT_EQ(comms_of_step(after, after), "");
  CommCounters big;
  big.reduce_scatter = {10, 5000000, 20000000, 0.01};
  const std::string table = comms_summary(big, 4);
  EXPECT_NE(table.find("reduce_scatter            10         5,000,000"), std::string::npos) << table;
  EXPECT_NE(table.find("2.00\n"), std::string::npos) << table;
  EXPECT_EQ(table.find("all_gather"), std::string::npos) << table;
}

}  // namespace
}  // namespace zerostep
