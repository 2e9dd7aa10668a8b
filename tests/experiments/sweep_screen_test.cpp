#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>

#include "experiments/sweep/screens.h"
#include "runtime/report/columns.h"
#include "tests/support/scratch_folder.h"
#include "tests/support/terminal.h"

namespace zerostep {
namespace {

using testing::Terminal;
using Lines = std::vector<std::string>;

// A sweep of runs with 1,000 steps, whose table is drawn on a terminal.
class SweepScreenTest : public ::testing::Test {
 protected:
  SweepScreenTest() {
    request_.file.output_dir = scratch_.folder().parent_path();
    request_.file.name = scratch_.folder().filename();
  }
  void add(const std::string& run, SweepState state) {
    request_.planned.emplace_back();
    steps_.push_back(1000);
    SweepRow& row = rows_.emplace_back();
    row.run = run;
    row.state = state;
  }
  // Its run's metrics.csv, so many seconds a step.
  void train(size_t row, int64_t steps, double loss, double seconds) {
    const std::filesystem::path folder = scratch_.folder() / rows_[row].run;
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "metrics.csv") << "step,loss,tokens_per_second,step_seconds\n"
                                          << steps - 1 << "," << loss << ",12345," << seconds << "\n";
  }
  void end(size_t row, double loss) {
    rows_[row].state = SweepState::Done;
    rows_[row].steps = 1000;
    rows_[row].last_loss = loss;
  }
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> open(const Terminal& terminal) const {
    return {std::fopen(terminal.name().c_str(), "we"), &std::fclose};
  }

  const ScratchFolder scratch_;
  SweepRequest request_;
  std::vector<SweepRow> rows_;
  std::vector<int64_t> steps_;
};

TEST_F(SweepScreenTest, IsDrawnAgainInItsPlace) {
  add("seed=1", SweepState::Running);
  add("seed=2", SweepState::Queued);
  train(0, 10, 3.25, 2);
  Terminal terminal(80);
  const auto out = open(terminal);
  ASSERT_NE(out, nullptr);
  const std::unique_ptr<SweepScreen> screen = make_terminal_screen(request_, 1, out.get());
  screen->line("seed=1: started");
  screen->show(rows_, steps_);
  terminal.read_all();
  EXPECT_EQ(terminal.shown(), (Lines{"seed=1: started", "run     state                step last loss   tokens/s     left",
                                     "seed=1  running           10/1000    3.2500     12.3 k    33:00", "seed=2  queued",
                                     "0 of 2 done, 1 running | about 1:06:20 left"}));
  end(0, 1.5);
  rows_[1].state = SweepState::Running;
  train(1, 500, 2.125, 0.1);
  screen->line("[1/2] seed=1: done");
  screen->finish(rows_, steps_);
  screen->line("1 of 2 runs done");
  terminal.read_all();
  EXPECT_EQ(terminal.shown(),
            (Lines{"seed=1: started", "[1/2] seed=1: done", "run     state                step last loss   tokens/s     left",
                   "seed=2  running          500/1000    2.1250     12.3 k     50 s", "seed=1  done            1000/1000    1.5000",
                   "1 of 2 done, 1 running | about 50 s left", "1 of 2 runs done"}));
}

TEST_F(SweepScreenTest, HasWhatMattersOnNarrowTerminalsToo) {
  for (const char* mode : {"fo", "zo"})
    for (const char* seed : {"1", "2"}) add(std::string("mode=") + mode + ",lr=0.0003,queries=64,seed=" + seed, SweepState::Running);
  for (int columns : {100, 80, 60, 48, 40}) {
    SCOPED_TRACE(columns);
    Terminal terminal(columns);
    const auto out = open(terminal);
    ASSERT_NE(out, nullptr);
    const std::unique_ptr<SweepScreen> screen = make_terminal_screen(request_, 1, out.get());
    for (size_t i = 0; i < rows_.size(); ++i) train(i, 10, 3.25, 20);
    screen->show(rows_, steps_);
    for (size_t i = 0; i < rows_.size(); ++i) train(i, 875, 2.125, 20);
    screen->finish(rows_, steps_);
    terminal.read_all();
    const Lines shown = terminal.shown();
    ASSERT_EQ(shown.size(), 6U);  // none of them goes on in the next one, and none of the first time stays
    std::set<std::string> names;
    for (size_t i = 1; i < 5; ++i) {
      EXPECT_LT(columns_of_text(shown[i]), columns);
      names.insert(shown[i].substr(0, shown[i].find(' ')));
      for (const char* cell : {" running ", " 875/1000 ", " 2.1250 "}) EXPECT_NE(shown[i].find(cell), std::string::npos) << shown[i];
      EXPECT_TRUE(shown[i].ends_with(" 41:40")) << shown[i];
      EXPECT_EQ(shown[i].find("12.3 k") != std::string::npos, columns >= 60) << shown[i];
    }
    const std::string first = columns >= 80   ? "mode=fo,lr=0.0003,queries=64,seed=1 "
                              : columns >= 48 ? "mode=fo,\u2026,seed=1 "
                                              : "fo,\u2026,1 ";
    EXPECT_TRUE(shown[1].starts_with(first)) << shown[1];
    EXPECT_EQ(names.size(), 4U) << shown[1];
    EXPECT_TRUE(shown.back().starts_with("0 of 4 done")) << shown.back();
    EXPECT_TRUE(shown.back().ends_with(" | about 2:46:40 left")) << shown.back();
  }
}

}  // namespace
}  // namespace zerostep
