#include "experiments/records/run_record.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "runtime/report/folder_lock.h"
#include "tests/experiments/support/as_nobody.h"
#include "tests/support/expect_says.h"
#include "tests/support/message_of.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

using testing::message_of;

class RunRecords : public ::testing::Test {
 protected:
  std::filesystem::path make(const std::string& name, const std::string& log = "", const std::string& config = R"({"run": {"steps": 2}})") {
    const std::filesystem::path folder = scratch_.folder() / name;
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "metrics.csv") << "step,loss\n0,1\n";
    std::ofstream(folder / "log.txt") << log;
    std::ofstream(folder / "config.json") << config;
    return folder;
  }
  RunRecord record(const std::string& name, const std::string& log) { return read_run(make(name, log)); }
  ScratchFolder scratch_;
};

TEST_F(RunRecords, StatesAreThoseOfTheLastProcess) {
  const std::string begins = "ranks          1 on cpu\n", stopped = "stopped by SIGINT after 1 of 2 steps in 1 s: loss 2 -> 1\n",
                    failed = "zerostep: step 1: rank 0: the loss is nan\n",
                    done = "2 steps done in 1 s: loss 2 -> 1\nspeed  1 k tokens/s\n";
  EXPECT_EQ(record("a", begins).state, RunState::Killed);
  EXPECT_EQ(record("b", begins + done).state, RunState::Done);
  EXPECT_EQ(record("c", begins + "1 step done in 1 s\n").state, RunState::Done);
  const RunRecord interrupted = record("d", begins + stopped);
  EXPECT_EQ(interrupted.state, RunState::Interrupted);
  EXPECT_EQ(interrupted.why, "SIGINT");
  const RunRecord error = record("e", begins + failed);
  EXPECT_EQ(error.state, RunState::Failed);
  EXPECT_EQ(error.why, "step 1: rank 0: the loss is nan");
  EXPECT_EQ(record("f", begins + stopped + begins).state, RunState::Killed);
  EXPECT_EQ(record("f", begins + stopped + begins).why, "");
  EXPECT_EQ(record("g", begins + stopped + begins + done).state, RunState::Done);
  EXPECT_EQ(record("g", begins + stopped + begins + done).why, "");
  EXPECT_EQ(record("i", begins + "killed by SIGKILL\n").state, RunState::Killed);
  EXPECT_EQ(record("i", begins + "killed by SIGKILL\n").why, "SIGKILL");
  EXPECT_EQ(record("i", begins + "killed by SIGKILL\n" + begins).why, "");
  EXPECT_EQ(record("h", begins + "12 steps of another kind are done\n").state, RunState::Killed);
}

TEST_F(RunRecords, WhatCannotBeReadIsSaidAndStopsNoOther) {
  const std::string done = "ranks          1 on cpu\n2 steps done in 1 s\n";
  namespace fs = std::filesystem;
  const auto put_folder = [](const fs::path& file) {
    fs::remove(file);
    fs::create_directories(file);
  };
  make("a", done);
  put_folder(make("b", done) / "log.txt");
  put_folder(make("c", done) / "config.json");
  std::ofstream(make("d", done) / "config.json") << "{\"run\": {\"st";
  std::ofstream(make("e", done) / "plan.json") << "[1]";
  fs::create_symlink("log.txt", (fs::remove(make("f", done) / "log.txt"), scratch_.folder() / "f/log.txt"));  // names itself
  const std::vector<RunRecord> runs = find_runs({scratch_.folder().string()});
  ASSERT_EQ(runs.size(), 6U);
  EXPECT_EQ(runs[0].unread, "");
  EXPECT_EQ(runs[1].state, RunState::Unknown);
  EXPECT_SAYS(runs[1].unread, "'log.txt' is a directory");
  EXPECT_EQ(runs[2].state, RunState::Done);
  EXPECT_SAYS(runs[2].unread, "'config.json' is a directory");
  EXPECT_TRUE(runs[2].config.is_null());
  EXPECT_EQ(runs[3].unread, "config.json is damaged: a JSON object is expected");
  EXPECT_EQ(runs[4].unread, "plan.json is damaged: a JSON object is expected");
  EXPECT_TRUE(std::isnan(runs[4].planned_bytes("device")));
  EXPECT_EQ(runs[4].total_steps(), 2);
  EXPECT_EQ(runs[5].state, RunState::Unknown);
  EXPECT_SAYS(runs[5].unread, "log.txt");
}

TEST_F(RunRecords, EpochsAreTheStepsOfThePlan) {
  const auto steps = [&](const char* plan) {
    const std::filesystem::path folder = make("epochs", "", R"({"run": {"epochs": 3}})");
    std::ofstream(folder / "plan.json") << plan;
    return read_run(folder).total_steps();
  };
  EXPECT_EQ(steps(R"({"run_steps": 75, "world": 1})"), 75);
  EXPECT_EQ(steps(R"({"world": 1})"), 0) << "a plan of former versions";
  EXPECT_EQ(steps(R"({"run_steps": "75"})"), 0);
  EXPECT_EQ(read_run(make("steps")).total_steps(), 2) << "without a plan";
}

TEST_F(RunRecords, WhatMayNotBeReadIsSaid) {
  const std::filesystem::path folder = make("a");
  std::filesystem::permissions(folder / "log.txt", std::filesystem::perms::none);
  std::filesystem::permissions(scratch_.folder(), std::filesystem::perms(0755));
  {
    const testing::AsNobody nobody;
    const RunRecord run = read_run(folder);
    EXPECT_EQ(run.unread, "cannot read log.txt: Permission denied");
    EXPECT_TRUE(run.may_read_metrics);
    EXPECT_EQ(run.total_steps(), 2);
  }
  std::filesystem::permissions(folder / "log.txt", std::filesystem::perms(0644));
  std::filesystem::permissions(folder / "metrics.csv", std::filesystem::perms::none);
  const testing::AsNobody nobody;
  EXPECT_TRUE(holds_run(folder));
  const std::vector<RunRecord> runs = find_runs({scratch_.folder().string()});
  ASSERT_EQ(runs.size(), 1U);
  EXPECT_EQ(runs[0].name, "a");
  EXPECT_EQ(runs[0].unread, "cannot read metrics.csv: Permission denied");
  EXPECT_FALSE(runs[0].may_read_metrics);
}

TEST_F(RunRecords, OfAFolderAndLinksToItTheFolderCounts) {
  namespace fs = std::filesystem;
  const fs::path real = make("some/z");
  make("elsewhere/b");
  fs::create_directory_symlink(real, scratch_.folder() / "some/a");
  fs::create_directory_symlink(scratch_.folder() / "elsewhere", scratch_.folder() / "some/more");
  const std::vector<RunRecord> runs = find_runs({scratch_.path("some")});
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].folder, scratch_.folder() / "some/more/b");
  EXPECT_EQ(runs[1].folder, real);
  const auto link = [&](const std::string& place, const std::string& folder) {
    return link_on_way(scratch_.path(place), scratch_.path(folder)).lexically_relative(scratch_.folder()).string();
  };
  EXPECT_EQ(link("some", "some/z"), "");
  EXPECT_EQ(link("some", "some/more/b"), "some/more");
  // A place that is a link is what was asked for, unless it is the run itself.
  EXPECT_EQ(link("some/more", "some/more/b"), "");
  EXPECT_EQ(link("some/a", "some/a"), "some/a");
  EXPECT_EQ(link("some/a/", "some/a/"), "some/a");
}

TEST_F(RunRecords, AFolderWithAnOwnerRuns) {
  const std::filesystem::path folder = make("a");
  {
    const FolderLock lock(folder.string(), "run.name");
    EXPECT_EQ(read_run(folder).state, RunState::Running);
    EXPECT_SAYS(read_run(folder).owner, "process " + std::to_string(::getpid()));
    EXPECT_EQ(read_run(folder).why, "");
  }
  EXPECT_EQ(read_run(folder).state, RunState::Killed);
  // What a killed process has left.
  std::ofstream(folder / FolderLock::kFile) << "process 1 on nowhere";
  EXPECT_EQ(read_run(folder).state, RunState::Killed);
}

TEST_F(RunRecords, AreFoundBelowFoldersAndNamedApart) {
  make("one/a");
  make("one/deep/er/b");
  make("two/a");
  make("two/c/checkpoints/step_00000001");
  std::ofstream(scratch_.folder() / "d.csv") << "step,loss\n";
  const auto names = [&](const std::vector<std::string>& places) {
    std::vector<std::string> out;
    for (const RunRecord& run : find_runs(places)) out.push_back(run.name);
    return out;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names({scratch_.path("one")}), (Names{"a", "b"}));
  EXPECT_EQ(names({scratch_.path("one"), scratch_.path("two")}), (Names{"one/a", "er/b", "two/a"}));
  // All folders have as many parts, and all files: those of one kind say nothing of the other.
  EXPECT_EQ(names({scratch_.path("one"), scratch_.path("two"), scratch_.path("d.csv")}), (Names{"one/a", "er/b", "two/a", "d"}));
  std::ofstream(scratch_.folder() / "one/d.csv") << "step,loss\n";
  EXPECT_EQ(names({scratch_.path("one/deep"), scratch_.path("d.csv"), scratch_.path("one/d.csv")}),
            (Names{"b", scratch_.folder().filename().string() + "/d", "one/d"}));
  EXPECT_EQ(names({scratch_.path("d.csv"), scratch_.path("one/a"), scratch_.path("one/a/metrics.csv"), scratch_.path("one/../one/a")}),
            (Names{"d", "a"}));
  // What has a folder's path but for its end, or another file's, keeps the end; others have their short names all the same.
  std::ofstream(scratch_.folder() / "one/a.csv") << "step,loss\n";
  std::ofstream(scratch_.folder() / "one/a.csv.csv") << "step,loss\n";
  EXPECT_EQ(names({scratch_.path("one"), scratch_.path("one/a.csv"), scratch_.path("one/a.csv.csv"), scratch_.path("d.csv")}),
            (Names{"a", "b", "a.csv", "a.csv.csv", "d"}));
  std::ofstream(scratch_.path("e\xff.csv")) << "step,loss\n";
  EXPECT_EQ(names({scratch_.path("e\xff.csv")})[0].find('\xff'), std::string::npos);
  EXPECT_EQ(find_runs({scratch_.path("d.csv")})[0].state, RunState::Unknown);
  EXPECT_SAYS(message_of<InputError>([&] { find_runs({scratch_.path("nowhere")}); }), "nowhere cannot be found");
  EXPECT_SAYS(message_of<InputError>([&] { find_runs({scratch_.path("two/c/checkpoints/..")}); }), "metrics.csv");
}

// Of a run that was killed before it had written its first line nothing is left to read.
TEST_F(RunRecords, ARunHasAtLeastAFirstLine) {
  EXPECT_TRUE(holds_run(make("a")));
  std::ofstream(make("b") / "metrics.csv") << "step,lo";
  EXPECT_FALSE(holds_run(scratch_.folder() / "b"));
  std::ofstream(make("c") / "metrics.csv") << "";
  EXPECT_EQ(find_runs({scratch_.folder().string()}).size(), 1U);
}

TEST_F(RunRecords, TellsConfigurationsApart) {
  const std::string one = R"({"seed": 1, "run": {"name": "a", "steps": 2}, "step": {"mode": "fo"}, "data": {"train": ["x"]}})",
                    other =
                        R"({"seed": 1, "run": {"name": "b", "steps": 2}, "step": {"mode": "zo", "queries": 3}, "data": {"train": ["x"]}})";
  make("a", "", one);
  make("b", "", other);
  make("c", "", "{ half a fi");
  const std::vector<RunRecord> runs = find_runs({scratch_.folder().string()});
  EXPECT_EQ(runs[0].value("step.mode"), "fo");
  EXPECT_TRUE(runs[0].value("step.queries").is_null());
  EXPECT_TRUE(runs[0].value("step.mode.more").is_null());
  EXPECT_EQ(runs[1].total_steps(), 2);
  EXPECT_TRUE(runs[2].config.is_null());
  EXPECT_EQ(plain(runs[1].value("step.queries")), "3");
  EXPECT_EQ(plain(runs[1].value("step.mode")), "zo");
  EXPECT_EQ(plain(runs[1].value("data.train")), R"(["x"])");
}

TEST_F(RunRecords, KeysDifferWhereValuesDoOrSomeRunsAreKnownToHaveNone) {
  using Keys = std::vector<std::string>;
  const RunKeys fo{{{"seed", "1"}, {"step.mode", "fo"}, {"run.name", "a"}, {"data.cache", "x"}}},
      zo{{{"seed", "1"}, {"step.mode", "zo"}, {"step.queries", "3"}, {"run.name", "b"}, {"data.cache", "y"}}}, seed{{{"seed", "1"}}};
  EXPECT_EQ(differing_keys({fo, zo}), (Keys{"step.mode", "step.queries"}));
  EXPECT_EQ(differing_keys({seed, seed, {}}), (Keys{"seed"}));
  EXPECT_EQ(differing_keys({seed}), Keys{});
  EXPECT_EQ(differing_keys({}), Keys{});
  // Of a run of which a key is not known nothing differs but what is.
  const RunKeys file{{{"step.mode", "zo"}}, false}, none{{{"step.mode", "fo"}, {"step.queries", ""}}, false};
  EXPECT_EQ(differing_keys({zo, file}), Keys{});
  EXPECT_EQ(differing_keys({fo, file}), Keys{"step.mode"});
  EXPECT_EQ(differing_keys({zo, none}), (Keys{"step.mode", "step.queries"}));
  EXPECT_EQ(differing_keys({fo, none}), Keys{});
}

}  // namespace
}  // namespace zerostep
