#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launch/support/trained_place.h"

// Whose a run's folder is, what it may not lose, and what is found before anything is written.
namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class RunFolderOf : public TrainedPlace {
 protected:
  // Every file below a folder with its text and its time.
  std::map<std::string, std::pair<std::string, fs::file_time_type>> content(const std::string& name) const {
    std::map<std::string, std::pair<std::string, fs::file_time_type>> out;
    for (const auto& entry : fs::recursive_directory_iterator(place_.path(name)))
      if (entry.is_regular_file())
        out[entry.path().string()] = {place_.read(fs::relative(entry.path(), place_.path("")).string()), entry.last_write_time()};
    return out;
  }
  // The folders of runs, by name.
  std::vector<std::string> runs() const {
    std::vector<std::string> out;
    if (!place_.exists("runs")) return out;
    for (const auto& entry : fs::directory_iterator(place_.path("runs")))
      if (entry.path().filename() != ".cache") out.push_back(entry.path().filename());
    std::sort(out.begin(), out.end());
    return out;
  }
};

TEST_F(RunFolderOf, AFolderThatHoldsARunIsRefusedAndStaysAsItIs) {
  place_.config("\"step\": {\"mode\": \"zo\", \"queries\": 2}");
  for (const auto& [ranks, interval] : {std::pair(1, "0"), std::pair(2, "2")}) {
    fs::remove_all(place_.path("runs"));
    ASSERT_EQ(train({"run.checkpoint_interval=" + std::string(interval)}, {}, ranks).status, 0);
    place_.write("runs/test/notes.txt", "the user's own");
    const auto before = content("runs/test");
    const Outcome refused = train({"step={\"mode\": \"fo\"}", "run.steps=2"}, {}, ranks);
    EXPECT_EQ(refused.status, 2) << refused.err;
    EXPECT_EQ(count(refused.err, "zerostep: "), 1u) << refused.err;
    for (const char* part : {"runs/test holds a run of 4 steps", "--resume", "another run.name", "--overwrite"})
      EXPECT_SAYS(refused.err, part);
    EXPECT_EQ(refused.err.find("it has no checkpoint") == std::string::npos, std::string(interval) != "0") << refused.err;
    EXPECT_EQ(content("runs/test"), before);
    for (const bool by_option : {true, false}) {
      const Outcome anew = by_option ? train({"step={\"mode\": \"fo\"}", "run.steps=2"}, {"--overwrite"}, ranks)
                                     : train({"step={\"mode\": \"fo\"}", "run.steps=2", "run.overwrite=true"}, {}, ranks);
      ASSERT_EQ(anew.status, 0) << anew.err;
      EXPECT_SAYS(anew.out, "held a former run");
      const auto rows = place_.metrics("test");
      ASSERT_EQ(rows.size(), 2u);
      EXPECT_EQ(rows[1].at("mode"), "fo");
      EXPECT_FALSE(place_.exists("runs/test/zo_log.jsonl"));
      EXPECT_FALSE(place_.exists("runs/test/checkpoints/latest"));
      EXPECT_FALSE(place_.exists("runs/test/owner.lock"));
      EXPECT_EQ(place_.read("runs/test/notes.txt"), "the user's own");
      // Whoever reads the resolved file again does not overwrite.
      EXPECT_FALSE(json::parse(place_.read("runs/test/config.json"))["run"].contains("overwrite"));
      EXPECT_EQ(place_.run({"train", place_.path("runs/test/config.json")}).status, 2);
    }
  }
  EXPECT_EQ(train({}, {"--resume", "--overwrite"}).status, 2);
}

// A file that a run would write over is a run's, whoever has made it.
TEST_F(RunFolderOf, AConfigurationThatLiesWhereTheRunWouldWriteItsOwnIsNotReplaced) {
  const std::string text = place_.read(fs::path(place_.config()).filename());
  fs::create_directories(place_.path("runs/test"));
  place_.write("runs/test/config.json", text);
  const Outcome refused = place_.run({"train", place_.path("runs/test/config.json")});
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "runs/test holds");
  EXPECT_EQ(place_.read("runs/test/config.json"), text);
}

TEST_F(RunFolderOf, ARunWithoutANameIsNamedByModeDateAndTime) {
  place_.config();
  const std::string unnamed = "run.name=null";
  std::vector<std::string> seen;
  for (const auto& [mode, ranks] : {std::pair("fo", 1), std::pair("zo", 2)}) {
    const Outcome done = train({unnamed, "run.steps=1", "run.checkpoint_interval=1", "step.mode=" + std::string(mode)}, {}, ranks);
    ASSERT_EQ(done.status, 0) << done.err;
    std::vector<std::string> now = runs();
    ASSERT_EQ(now.size(), seen.size() + 1);
    std::erase_if(now, [&](const std::string& name) { return std::find(seen.begin(), seen.end(), name) != seen.end(); });
    seen.push_back(now[0]);
    std::array<char, 32> day{};
    const std::time_t time = std::time(nullptr);
    std::strftime(day.data(), day.size(), "%Y%m%d", std::localtime(&time));
    EXPECT_EQ(now[0].substr(0, 12), std::string(mode) + "-" + day.data() + "-");
    EXPECT_EQ(now[0].size(), 18u) << now[0];
    EXPECT_EQ(json::parse(place_.read("runs/" + now[0] + "/config.json"))["run"]["name"], now[0]);
    EXPECT_SAYS(done.out, "folder         " + place_.path("runs/" + now[0]));
  }
  // Of runs that begin in one second each has a folder of its own.
  const std::string script = "\"$ZEROSTEP_BINARY\" \"$@\" & \"$ZEROSTEP_BINARY\" \"$@\" & \"$ZEROSTEP_BINARY\" \"$@\" & wait";
  std::vector<std::string> together{"bash", "-c", script, "bash"};
  const std::vector<std::string> more = arguments({unnamed, "run.steps=1"});
  together.insert(together.end(), more.begin(), more.end());
  place_.run_command(together);
  EXPECT_EQ(runs().size(), 5u);
  for (const std::string& name : runs()) EXPECT_EQ(place_.metrics(name).size(), 1u) << name;
  // It goes on in the folder of the checkpoint that is named; a latest checkpoint needs a name.
  const std::string checkpoint = place_.path("runs/" + seen[0] + "/checkpoints/step_00000001");
  const Outcome resumed = train({unnamed, "run.steps=3"}, {"--resume", checkpoint}, 2);
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(place_.metrics(seen[0]).size(), 3u);
  EXPECT_EQ(json::parse(place_.read("runs/" + seen[0] + "/config.json"))["run"]["name"], seen[0]);
  EXPECT_EQ(runs().size(), 5u);
  const Outcome nameless = train({unnamed}, {"--resume"});
  EXPECT_EQ(nameless.status, 2);
  EXPECT_SAYS(nameless.err, "run.name");
  // What reads the file without running it writes no name.
  EXPECT_FALSE(json::parse(place_.run({"config", place_.path("config.json"), "--set", unnamed, "--json"}).out)["run"].contains("name"));
}

TEST_F(RunFolderOf, OneProcessOwnsItWhileItLives) {
  place_.config();
  for (const int ranks : {1, 2}) {
    fs::remove_all(place_.path("runs"));
    const std::vector<std::string> endless{"run.steps=100000", "run.checkpoint_interval=2"};
    const pid_t pid = place_.start(place_.command(arguments(endless), ranks));
    ASSERT_TRUE(place_.wait_for_rows("test", 4, pid)) << place_.finish(pid, 0).err;
    const std::vector<pid_t> owners = ranks == 1 ? std::vector<pid_t>{pid} : children_of(pid);
    Workplace other;
    for (const std::vector<std::string>& way : {std::vector<std::string>{}, {"--resume"}, {"--overwrite"}}) {
      const Outcome refused = other.run(arguments({"run.steps=100001"}, way), {.ranks = ranks});
      EXPECT_EQ(refused.status, 2) << refused.err;
      EXPECT_LT(refused.seconds, 20);
      EXPECT_EQ(count(refused.err, "zerostep: "), 1u) << refused.err;
      EXPECT_SAYS(refused.err, place_.path("runs/test") + " belongs to a run that is going on: process ");
      EXPECT_TRUE(std::any_of(owners.begin(), owners.end(), [&](pid_t p) {
        return count(refused.err, " " + std::to_string(p) + " on ") > 0;
      })) << refused.err;
    }
    ::kill(pid, SIGUSR1);
    const Outcome first = place_.finish(pid, 30);
    EXPECT_EQ(first.status, 0) << first.err;
    const auto rows = place_.metrics("test");
    for (size_t s = 0; s < rows.size(); ++s) EXPECT_EQ(rows[s].at("step"), std::to_string(s));
    EXPECT_FALSE(place_.exists("runs/test/owner.lock"));
    // Nothing of the ownership survives a kill.
    fs::remove_all(place_.path("runs"));
    const pid_t killed = place_.start(place_.command(arguments(endless), ranks));
    ASSERT_TRUE(place_.wait_for_rows("test", 2, killed)) << place_.finish(killed, 0).err;
    for (const pid_t child : children_of(killed)) ::kill(child, SIGKILL);
    ::kill(killed, SIGKILL);
    place_.finish(killed, 30);
    EXPECT_TRUE(place_.exists("runs/test/owner.lock"));
    const Outcome free = train({"run.steps=1"}, {"--overwrite"}, ranks);
    EXPECT_EQ(free.status, 0) << free.err;
  }
}

TEST_F(RunFolderOf, PatternsThatMatchNothingAreFoundBeforeAnythingIsWritten) {
  place_.config();
  struct Case {
    std::string key, pattern;
    std::vector<std::string> set;
  };
  const Case cases[] = {{"optimizer.params.no_decay", "bias", {"optimizer.params.no_decay=[\"*.weight\", \"bias\"]"}},
                        {"optimizer.groups[1].patterns",
                         "*.attention.*",
                         {"optimizer.groups=[{\"patterns\": \"*.weight\"}, {\"patterns\": [\"*.attention.*\"], \"lr_factor\": 0.1}]"}},
                        {"optimizer.params.no_muon",
                         "*.embedding*",
                         {"optimizer={\"type\": \"Muon\", \"params\": {\"lr\": 1e-3, \"no_muon\": [\"*.embedding*\"]}}"}},
                        {"model.trainable", "*.nothing.*", {"model.trainable=[\"*.nothing.*\"]"}},
                        {"step.scope", "*.nothing.*", {"step.mode=zo", "step.scope=[\"*.nothing.*\"]"}}};
  for (const Case& c : cases)
    for (const auto& [command, ranks] : {std::pair("config", 1), std::pair("plan", 1), std::pair("train", &c == cases ? 2 : 1)}) {
      std::vector<std::string> line = arguments(c.set);
      line[0] = command;
      const Outcome refused = place_.run(line, {.ranks = ranks});
      EXPECT_EQ(refused.status, 2) << command << " " << c.key << refused.err;
      EXPECT_SAYS(refused.err, c.key + ": the pattern \"" + c.pattern + "\" matches no parameter");
      EXPECT_EQ(count(refused.err, "zerostep: "), 1u) << refused.err;
      EXPECT_EQ(refused.out, "");
    }
  EXPECT_SAYS(train(cases[0].set).err, "\"*bias\" would match 13 of 28");
  EXPECT_FALSE(place_.exists("runs"));
  // No parameter is of both.
  for (const char* command : {"config", "train"}) {
    std::vector<std::string> line = arguments({"model.trainable=[\"*wte*\"]", "step.scope=[\"*.bias\"]"});
    line[0] = command;
    const Outcome refused = place_.run(line);
    EXPECT_EQ(refused.status, 2);
    EXPECT_SAYS(refused.err, "leave no parameter to train");
  }
  // Whoever looks for the names gets them.
  EXPECT_EQ(place_.run({"inspect", "model", place_.path("config.json"), "--set", cases[0].set[0]}).status, 0);
}

TEST_F(RunFolderOf, ARunThatCannotStartLeavesNoFolder) {
  place_.config();
  place_.write("file", "");
  struct Case {
    std::vector<std::string> set, more;
    std::string says;
  };
  const Case cases[] = {
      Case{{"data.train=/nowhere/at_all.txt"}, {}, "data.train"},
      Case{{"run.device_memory=100000"}, {}, "run.device_memory"},
      Case{{"csv_monitor={\"enabled\": true, \"output_path\": \"" + place_.path("file") + "\"}", "zero_optimization.stage=1",
            "zero_optimization.offload_optimizer={\"device\": \"nvme\", \"nvme_path\": \"" + place_.path("scratch/new") + "\"}"},
           {},
           "csv_monitor.output_path"},
      Case{{"flops_profiler={\"enabled\": true, \"output_file\": \"" + place_.path("nowhere/profile.txt") + "\"}"},
           {},
           "flops_profiler.output_file"},
      Case{{"csv_monitor={\"enabled\": true, \"output_path\": \"" + place_.path("monitor") + "\"}"},
           {"--save-model", place_.path("file")},
           place_.path("file")},
      Case{{"run.steps=0"}, {}, "run.steps is 0"},
      Case{{"run.steps=null", "run.epochs=0"}, {}, "run.epochs is 0"}};
  // Half of them on two ranks: what one rank finds before the ranks have met, and what they find together.
  for (size_t i = 0; i < std::size(cases); ++i) {
    const Outcome refused = train(cases[i].set, cases[i].more, i % 2 == 0 ? 2 : 1);
    EXPECT_EQ(refused.status, 2) << refused.err;
    EXPECT_SAYS(refused.err, cases[i].says);
    EXPECT_EQ(runs(), std::vector<std::string>{}) << cases[i].says;
    EXPECT_FALSE(place_.exists("scratch") || place_.exists("monitor")) << cases[i].says;
  }
  // What stands where a checkpoint is named later is found before, and is that of the name that was typed.
  fs::create_directories(place_.path("runs/typed/checkpoints/best"));
  const Outcome occupied = train({"run.name=typed", "run.checkpoint_interval=1"});
  EXPECT_EQ(occupied.status, 2);
  EXPECT_SAYS(occupied.err, "zerostep: --set run.name=typed: '" + place_.path("runs/typed/checkpoints/best") + "' is a directory");
  // The folder that cannot be made is named as that of runs, though the token cache would lie there too.
  const Outcome nowhere = train({"run.output_dir=" + place_.path("file/runs")});
  EXPECT_EQ(nowhere.status, 2);
  EXPECT_SAYS(nowhere.err, "run.output_dir");
  EXPECT_EQ(count(nowhere.err, "cache"), 0u) << nowhere.err;
}

TEST_F(RunFolderOf, TheMonitorsFilesAreThoseOfOneRun) {
  place_.config("\"csv_monitor\": {\"enabled\": true}");
  const auto series = [&](const std::string& name) { return place_.read(name + "/Train_Samples_train_loss.csv"); };
  ASSERT_EQ(train({"run.steps=3", "run.checkpoint_interval=2"}).status, 0);
  const std::string folder = "runs/test/csv_monitor/DeepSpeedJobName";
  EXPECT_EQ(count(series(folder), "\n"), 4u) << series(folder);
  const std::string whole = series(folder);
  // Gone on with from step 2.
  ASSERT_EQ(train({"run.steps=3"}, {"--resume", place_.path("runs/test/checkpoints/step_00000002")}).status, 0);
  EXPECT_EQ(series(folder), whole);
  // Begun anew, and without what the former run alone has written.
  place_.write(folder + "/Train_Samples_loss_scale.csv", "step,loss_scale\n4,1\n");
  ASSERT_EQ(train({"run.steps=2"}, {"--overwrite"}).status, 0);
  EXPECT_EQ(series(folder), whole.substr(0, series(folder).size()));
  EXPECT_EQ(count(series(folder), "\n"), 3u);
  EXPECT_FALSE(place_.exists(folder + "/Train_Samples_loss_scale.csv"));
  // Two runs that share a folder: the files of the first are set aside, or go. Files that are no monitor's stay.
  const std::string shared = "csv_monitor={\"enabled\": true, \"output_path\": \"" + place_.path("shared") + "\", \"job_name\": \"job\"}";
  ASSERT_EQ(train({shared, "run.name=one"}).status, 0);
  place_.write("shared/job/Train_Samples_lr.csv.txt", "mine");
  place_.write("shared/job/Train_data.csv", "text,label\n");
  const std::string of_one = series("shared/job");
  for (const std::string former : {"shared/job.former", "shared/job.former-2"}) {
    const std::string of_former = series("shared/job");
    const Outcome second = train({shared, "run.name=two-" + former.substr(former.find('.')), "run.steps=2"});
    EXPECT_EQ(second.status, 0) << second.err;
    EXPECT_SAYS(second.err, "held the series of another run: they are in " + place_.path(former) + " now");
    EXPECT_EQ(series(former), of_former);
    EXPECT_EQ(count(series("shared/job"), "\n"), 3u);
  }
  EXPECT_EQ(series("shared/job.former"), of_one);
  ASSERT_EQ(train({shared, "run.name=two", "run.steps=3"}, {"--overwrite"}).status, 0);
  EXPECT_EQ(count(series("shared/job"), "\n"), 4u);
  EXPECT_FALSE(place_.exists("shared/job.former-3"));
  EXPECT_EQ(place_.read("shared/job/Train_data.csv"), "text,label\n");
  EXPECT_TRUE(place_.exists("shared/job/Train_Samples_lr.csv.txt"));
  // Not at once.
  const pid_t pid = place_.start(place_.command(arguments({shared, "run.name=three", "run.steps=100000", "run.overwrite=true"}), 1));
  ASSERT_TRUE(place_.wait_for_rows("three", 2, pid)) << place_.finish(pid, 0).err;
  const Outcome refused = Workplace().run(arguments({shared, "run.name=four"}));
  EXPECT_EQ(refused.status, 2);
  EXPECT_SAYS(refused.err, "csv_monitor.job_name");
  EXPECT_SAYS(refused.err, "process " + std::to_string(pid));
  ::kill(pid, SIGUSR1);
  EXPECT_EQ(place_.finish(pid, 30).status, 0);
}

// The writer is held up by what stands where it makes its file: opening a FIFO waits for a reader.
TEST_F(RunFolderOf, ASecondSignalWaitsForTheCheckpointThatIsBeingWritten) {
  place_.config();
  for (const bool completes : {true, false}) {
    fs::remove_all(place_.path("runs"));
    const std::string timeout = completes ? "60" : "2";
    const pid_t pid = place_.start(
        place_.command(arguments({"run.steps=1000000", "run.checkpoint_interval=200", "run.collective_timeout_seconds=" + timeout}), 1));
    ASSERT_TRUE(place_.wait_for_rows("test", 1, pid)) << place_.finish(pid, 0).err;
    const std::string folder = place_.path("runs/test/checkpoints/.partial-step_00000200"), file = folder + "/rank_00000.safetensors";
    fs::create_directories(folder);
    ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
    const int held = ::open(file.c_str(), O_PATH | O_CLOEXEC);
    ASSERT_TRUE(place_.wait_for_rows("test", 201, pid)) << place_.finish(pid, 0).err;
    ::kill(pid, SIGTERM);
    ::usleep(300000);
    ::kill(pid, SIGTERM);
    ::usleep(1000000);
    EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), 0) << "the run has ended without its checkpoint";
    const std::string said = "a second signal, SIGTERM: the run ends as soon as checkpoint step_00000200 is written, in " + timeout + " s";
    EXPECT_EQ(count(place_.read("runs/test/log.txt"), said), 1u) << place_.read("runs/test/log.txt");
    // With the FIFO gone from its place, the woken writer makes a file.
    fs::remove(file);
    const int reader = completes ? ::open(("/proc/self/fd/" + std::to_string(held)).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    const Outcome ended = place_.finish(pid, 30);
    EXPECT_EQ(ended.status, 143) << ended.err;
    EXPECT_SAYS(ended.err, said);
    EXPECT_EQ(place_.exists("runs/test/checkpoints/step_00000200"), completes) << ended.err;
    EXPECT_EQ(count(place_.read("runs/test/log.txt"), "is not complete after 2 s"), completes ? 0u : 1u);
    ::close(held);
    if (reader >= 0) ::close(reader);
    if (completes) {
      EXPECT_EQ(place_.run({"inspect", "checkpoint", place_.path("runs/test/checkpoints/step_00000200")}).status, 0);
    }
  }
}

// Of two ranks the second's file is held up: a failure of both, and a second signal to both, end the job with the checkpoint complete.
TEST_F(RunFolderOf, ACheckpointUnderWayIsCompletedThoughTheJobFailsOrIsEnded) {
  place_.config();
  for (const bool fails : {true, false}) {
    fs::remove_all(place_.path("runs"));
    std::vector<std::string> set{"run.steps=1000000", "run.checkpoint_interval=200"};
    // From step 221 on the rate is 1e33.
    if (fails)
      set.insert(set.end(), {"gradient_clipping=0",
                             "scheduler={\"type\": \"LRRangeTest\", \"params\": {\"lr_range_test_min_lr\": 1e-3, "
                             "\"lr_range_test_step_rate\": 1e36, \"lr_range_test_step_size\": 220, \"lr_range_test_staircase\": true}}"});
    const pid_t pid = place_.start(place_.command(arguments(set), 2));
    ASSERT_TRUE(place_.wait_for_rows("test", 1, pid)) << place_.finish(pid, 0).err;
    const std::string folder = place_.path("runs/test/checkpoints/.partial-step_00000200"), file = folder + "/rank_00001.safetensors";
    fs::create_directories(folder);
    ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
    const int held = ::open(file.c_str(), O_PATH | O_CLOEXEC);
    ASSERT_TRUE(place_.wait_for_rows("test", fails ? 221 : 201, pid)) << place_.finish(pid, 0).err;
    for (int signals = fails ? 0 : 2; signals > 0; --signals) {
      for (const pid_t rank : children_of(pid)) ::kill(rank, SIGTERM);
      ::usleep(300000);
    }
    ::usleep(1000000);
    EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), 0) << "the job has ended without its checkpoint";
    EXPECT_FALSE(place_.exists("runs/test/checkpoints/step_00000200"));
    fs::remove(file);
    const int reader = ::open(("/proc/self/fd/" + std::to_string(held)).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    const Outcome ended = place_.finish(pid, 30);
    EXPECT_EQ(ended.status, fails ? 1 : 143) << ended.err;
    ::close(held);
    ::close(reader);
    if (fails) {
      EXPECT_EQ(count(ended.err, "zerostep: "), 1u) << ended.err;
      EXPECT_SAYS(ended.err, "checkpoint step_00000200 is being written: the failed run ends with it");
      EXPECT_SAYS(ended.err, "checkpoint step_00000200 is written");
    }
    EXPECT_GE(place_.read("runs/test/checkpoints/latest"), "step_00000200\n") << ended.err;
    EXPECT_EQ(place_.run({"inspect", "checkpoint", place_.path("runs/test/checkpoints/step_00000200")}).status, 0);
  }
}

}  // namespace
}  // namespace zerostep::testing
