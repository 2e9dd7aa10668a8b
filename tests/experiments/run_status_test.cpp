#include "experiments/watch/run_status.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/host_name.h"
#include "experiments/records/metrics_table.h"
#include "experiments/watch/process_use.h"
#include "experiments/watch/status_line.h"
#include "runtime/report/folder_lock.h"
#include "tests/experiments/support/as_nobody.h"
#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

constexpr const char* kHeader =
    "timestamp,step,loss,eval_loss,tokens_per_second,step_seconds,device_peak_bytes,resident_bytes,gpu_busy,gpu_bytes\n";

class RunStatusOf : public ::testing::Test {
 protected:
  RunStatusOf() { write("config.json", R"({"run": {"steps": 10}})"); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(scratch_.path(name)) << text; }
  RunStatus status(double now = 0) const { return status_of(read_run(scratch_.folder()), now); }
  double time_of(const char* text) const { return seconds_of_timestamp(text); }
  ScratchFolder scratch_;
};

TEST_F(RunStatusOf, ARunningRunHasSpeedAndTimeLeftOfItsLastSteps) {
  // The first step took long; of the others two seconds made 100 + 3 * 300 tokens: 333.3 a second, and 1.5 s a step.
  write("metrics.csv", std::string(kHeader) +
                           "2026-01-01T00:00:00.000Z,0,5.5,,1,90,1000,1,,\n"
                           "2026-01-01T00:00:01.000Z,1,5.0,4.5,100,1,2000,2,,\n"
                           "2026-01-01T00:00:03.000Z,2,4.0,,450,2,3000,3,0.5,77\n");
  write("plan.json", R"({"device_peak_bytes": 4000})");
  const FolderLock lock(scratch_.folder().string(), "run.name");
  const RunStatus s = status(time_of("2026-01-01T00:00:13.000Z"));
  EXPECT_EQ(s.state, RunState::Running);
  EXPECT_EQ(s.step, 2);
  EXPECT_EQ(s.total, 10);
  EXPECT_EQ(s.losses, (std::vector<double>{5.5, 5, 4}));
  EXPECT_EQ(s.last_loss, 4);
  EXPECT_EQ(s.final_loss, 4);
  EXPECT_EQ(s.eval_loss, 4.5);
  EXPECT_DOUBLE_EQ(s.step_seconds, 1.5);
  EXPECT_DOUBLE_EQ(s.tokens_per_second, 1000.0 / 3);
  EXPECT_DOUBLE_EQ(s.seconds_left, 7 * 1.5);
  EXPECT_EQ(s.device_peak_bytes, 3000);
  EXPECT_EQ(s.planned_bytes, 4000);
  EXPECT_EQ(s.resident_bytes, 3);
  EXPECT_EQ(s.gpu_busy, 0.5);
  EXPECT_EQ(s.gpu_bytes, 77);
  EXPECT_NEAR(s.seconds_since_row, 10, 1e-6);  // doubles of seconds since 1970 have 2e-7
  EXPECT_FALSE(s.is_silent());
  const std::string line = status_line(s, 0);
  for (const char* part : {"running", "step 3/10", "last loss 4.0000 █▆▁", "evaluation 4.5000", "333 tokens/s", "left",
                           "2.93 KiB of 3.91 KiB planned", "gpu 50 %"})
    EXPECT_SAYS(line, part);
  EXPECT_EQ(line.find("NO ROW"), line.npos);
  EXPECT_EQ(line.find("accuracy"), line.npos);
}

TEST_F(RunStatusOf, LastAndFinalLossAndAccuracyAreToldApart) {
  std::string rows = "step,loss,eval_loss,eval_accuracy\n";
  for (int step = 0; step < 40; ++step)
    rows += fmt::format("{},{},{}\n", step, 100 - step, step == 9 ? "2.5,0.75" : step == 19 ? "3.5,0.875" : step == 29 ? "3,0.5" : ",");
  write("metrics.csv", rows);
  const RunStatus s = status();
  EXPECT_EQ(s.last_loss, 61);
  EXPECT_EQ(s.final_loss, (61 + 62) / 2.0);
  EXPECT_EQ(s.eval_loss, 3);
  EXPECT_EQ(s.best_eval_loss, 2.5);
  EXPECT_EQ(s.eval_accuracy, 0.5);
  EXPECT_EQ(s.best_eval_accuracy, 0.875);
  EXPECT_SAYS(status_line(s, 0), "| last loss 61.0000 ");
  EXPECT_SAYS(status_line(s, 0), "| evaluation 3.0000, accuracy 0.5000");
  const nlohmann::ordered_json object = status_json(s);
  EXPECT_EQ(object.at("loss"), 61);
  EXPECT_EQ(object.at("final_loss"), 61.5);
  EXPECT_EQ(object.at("eval_accuracy"), 0.5);
  EXPECT_EQ(object.at("best_eval_accuracy"), 0.875);
}

TEST_F(RunStatusOf, ARunWithoutARowForFiveMinutesIsMarked) {
  write("metrics.csv", std::string(kHeader) + "2026-01-01T00:00:00.000Z,0,5.5,,1,90,1000,1,,\n");
  {
    const FolderLock lock(scratch_.folder().string(), "run.name");
    EXPECT_FALSE(status(time_of("2026-01-01T00:04:59.000Z")).is_silent());
    const RunStatus s = status(time_of("2026-01-01T00:05:12.000Z"));
    EXPECT_TRUE(s.is_silent());
    EXPECT_SAYS(status_line(s, 0), "| running     | NO ROW for 5:12 | step 1/10 | last loss 5.5000");
    EXPECT_TRUE(status_json(s).at("is_silent").get<bool>());
  }
  // Three steps may take longer than that.
  write("metrics.csv", std::string(kHeader) + "2026-01-01T00:00:00.000Z,0,5.5,,1,200,1000,1,,\n");
  {
    const FolderLock lock(scratch_.folder().string(), "run.name");
    EXPECT_FALSE(status(time_of("2026-01-01T00:09:59.000Z")).is_silent());
    EXPECT_TRUE(status(time_of("2026-01-01T00:10:01.000Z")).is_silent());
  }
  // One that has ended has none to leave.
  EXPECT_FALSE(status(time_of("2026-01-02T00:00:00.000Z")).is_silent());
  EXPECT_TRUE(std::isnan(status(0).seconds_left));
}

TEST_F(RunStatusOf, ARunThatHasJustBegunIsKnownByItsState) {
  write("metrics.csv", "");
  const FolderLock lock(scratch_.folder().string(), "run.name");
  const RunStatus s = status();
  EXPECT_EQ(s.state, RunState::Running);
  EXPECT_EQ(s.step, -1);
  EXPECT_SAYS(status_line(s, 0), "no step yet");
  EXPECT_TRUE(status_json(s).at("loss").is_null());
}

TEST_F(RunStatusOf, MetricsThatMayNotBeReadAreSaidOnceBesideWhatEndedIt) {
  namespace fs = std::filesystem;
  write("metrics.csv", std::string(kHeader));
  write("log.txt", "ranks          1 on cpu\nzerostep: the loss is nan\n");
  fs::permissions(scratch_.path("metrics.csv"), fs::perms::none);
  fs::permissions(scratch_.folder(), fs::perms(0755));
  const testing::AsNobody nobody;
  const RunStatus s = status();
  EXPECT_EQ(s.state, RunState::Failed);
  EXPECT_EQ(s.why, "the loss is nan");
  EXPECT_EQ(s.unread, "cannot read metrics.csv: Permission denied");
}

TEST_F(RunStatusOf, JsonHasTheNumbersAsTheyAre) {
  write("metrics.csv", std::string(kHeader) + "2026-01-01T00:00:00.000Z,6,0.3333333333333333,,1,90,12345678901,1,,\n");
  write("log.txt", "ranks          1\nzerostep: step 7: the loss is nan\n");
  const nlohmann::ordered_json object = status_json(status());
  EXPECT_EQ(object.at("state"), "failed");
  EXPECT_EQ(object.at("why"), "step 7: the loss is nan");
  EXPECT_EQ(object.at("step"), 6);
  EXPECT_EQ(object.at("steps"), 10);
  EXPECT_EQ(object.at("loss").get<double>(), 1.0 / 3);
  EXPECT_EQ(object.at("device_peak_bytes"), 12345678901);
  EXPECT_TRUE(object.at("gpu_busy").is_null());
  EXPECT_TRUE(object.at("eval_accuracy").is_null());
}

TEST_F(RunStatusOf, AGpuOfWhichOnlyOneFigureIsKnownHasThatOne) {
  const std::string row = "2026-01-01T00:00:00.000Z,0,5.5,,1,90,1000,1,";
  write("metrics.csv", kHeader + row + "0.5,\n");
  EXPECT_TRUE(std::isnan(status().gpu_bytes));
  EXPECT_SAYS(status_line(status(), 0) + "\n", "| gpu 50 %\n");
  write("metrics.csv", kHeader + row + ",2048\n");
  EXPECT_SAYS(status_line(status(), 0) + "\n", "| gpu 2.00 KiB\n");
}

TEST_F(RunStatusOf, TheOwnerIsNoReason) {
  write("metrics.csv", kHeader);
  const FolderLock lock(scratch_.folder().string(), "run.name");
  const nlohmann::ordered_json object = status_json(status());
  EXPECT_EQ(object.at("why"), "");
  EXPECT_SAYS(object.at("owner").get<std::string>(), "process " + std::to_string(::getpid()));
}

// A change of a file that shows in neither its size nor its time is not seen: so one knows that the file was not read.
TEST_F(RunStatusOf, AFileThatHasNotChangedIsNotReadAgain) {
  namespace fs = std::filesystem;
  const fs::path file = scratch_.path("metrics.csv");
  StatusReader reader;
  const auto loss = [&] { return reader.status_of(read_run(scratch_.folder()), 0).last_loss; };
  write("metrics.csv", "step,loss\n0,5\n");
  const fs::file_time_type time = fs::last_write_time(file);
  EXPECT_EQ(loss(), 5);
  write("metrics.csv", "step,loss\n0,4\n");
  fs::last_write_time(file, time);
  EXPECT_EQ(loss(), 5);
  EXPECT_EQ(status().last_loss, 4);
  fs::last_write_time(file, time + std::chrono::nanoseconds(1));
  EXPECT_EQ(loss(), 4);
  write("metrics.csv", "step,loss\n0,4\n1,3\n");
  fs::last_write_time(file, time + std::chrono::nanoseconds(1));
  EXPECT_EQ(loss(), 3);
  // What is not of the file is as it is now.
  write("log.txt", "ranks          1\nzerostep: step 7: the loss is nan\n");
  EXPECT_EQ(reader.status_of(read_run(scratch_.folder()), 0).why, "step 7: the loss is nan");
  fs::remove(file);
  EXPECT_TRUE(std::isnan(loss()));
}

TEST(ProcessUse, IsThatOfTheOwnerOnThisHost) {
  const auto owner = [](const std::string& host) { return "process " + std::to_string(::getpid()) + " on " + host + ", since 2026"; };
  const std::vector<int> processes = processes_of(owner(host_name()));
  ASSERT_FALSE(processes.empty());
  EXPECT_EQ(processes.front(), ::getpid());
  EXPECT_TRUE(processes_of(owner("elsewhere-" + host_name())).empty());
  EXPECT_TRUE(processes_of("a process that has not said its name").empty());
  const ProcessUse before = use_of({::getpid()});
  EXPECT_EQ(before.processes, 1);
  EXPECT_GT(before.resident_bytes, 1 << 20);
  // What a process computes shows in its own clock and here. Of two looks each rounds user and system time down to hundredths of a second,
  // so that a difference may miss two of them or have two too many.
  constexpr double kRounding = 0.02;
  const auto own_seconds = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
  const double begin = own_seconds();
  const ProcessUse early = use_of({::getpid()});
  const double inner_begin = own_seconds();
  while (own_seconds() - inner_begin < 0.2) {
  }
  const double inner = own_seconds() - inner_begin, used = use_of({::getpid()}).cpu_seconds - early.cpu_seconds;
  EXPECT_GT(used, inner - kRounding);
  EXPECT_LT(used, own_seconds() - begin + kRounding);
  EXPECT_EQ(use_of({1 << 30}).processes, 0);
}

}  // namespace
}  // namespace zerostep
