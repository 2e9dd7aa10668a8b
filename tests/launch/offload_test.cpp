#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/launch/support/run_binary.h"
#include "tests/offload/support/denied_call.h"
#include "tests/runtime/support/machines.h"

// State in files as a user meets it: paths and limits that are wrong, runs that are killed, runs that go on elsewhere.
namespace zerostep::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class OffloadRun : public ::testing::Test {
 protected:
  OffloadRun() {
    place_.config(R"("zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0})");
    fs::create_directories(disk());
  }
  std::string disk() const { return place_.path("disk"); }
  std::vector<std::string> set(const std::string& parameters, const std::string& state, const std::string& folder) const {
    const auto block = [&](const std::string& device) {
      return device == "nvme" ? R"({"device": "nvme", "nvme_path": ")" + folder + "\"}" : R"({"device": ")" + device + "\"}";
    };
    return {"--set", "zero_optimization.offload_param=" + block(parameters), "--set",
            "zero_optimization.offload_optimizer=" + block(state)};
  }
  std::vector<std::string> arguments(const std::vector<std::string>& set, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> out{"train", place_.path("config.json")};
    out.insert(out.end(), set.begin(), set.end());
    for (const std::string& s : more) out.insert(out.end(), {"--set", s});
    return out;
  }
  Outcome train(const std::vector<std::string>& set, const std::vector<std::string>& more = {}, const How& how = {}) const {
    return place_.run(arguments(set, more), how);
  }
  // Exit status 2, one message with these words, and no run.
  void expect_refused(const Outcome& done, const std::vector<std::string>& words) const {
    EXPECT_EQ(done.status, 2) << done.err;
    EXPECT_EQ(count(done.err, "zerostep: "), 1u) << done.err;
    for (const std::string& word : words) EXPECT_SAYS(done.err, word);
    EXPECT_FALSE(place_.exists("runs/test/metrics.csv"));
    EXPECT_TRUE(fs::is_empty(disk()));
  }
  Workplace place_;
};

TEST_F(OffloadRun, AFolderThatCannotHoldFilesIsRefusedBeforeTheRun) {
  place_.write("file", "x");
  const std::string key = "zero_optimization.offload_param.nvme_path";
  const std::vector<std::pair<std::string, std::vector<std::string>>> paths = {
      {place_.path("file"), {place_.path("file") + " is a file", "Name a folder"}},
      {place_.path("file") + "/below", {place_.path("file") + "/below cannot be made: Not a directory", "Name a folder"}},
      {"/proc/sys", {"no file can be made in /proc/sys", "this user may write"}},
      {place_.path(std::string(300, 'x')), {"cannot be made: File name too long"}},
      {"~nobody/disk", {"\"~nobody/disk\"", "$HOME"}},
  };
  for (auto [path, words] : paths) {
    words.push_back(key);
    expect_refused(train(set("nvme", "nvme", path)), words);
  }
  // `plan` warns of the same in the same words, and of the folder of the run, and leaves nothing.
  fs::create_symlink("nowhere", place_.path("link"));
  for (const std::string& folder : {place_.path("link"), std::string("/proc/none"), disk() + "/new"}) {
    const std::vector<std::string> in_files = set("nvme", "nvme", folder);
    const std::vector<std::string> runs{"run.output_dir=" + (folder == disk() + "/new" ? place_.path("file") : place_.path("runs"))};
    std::vector<std::string> line = arguments(in_files, runs);
    line.front() = "plan";
    const Outcome planned = place_.run(line), refused = train(in_files, runs);
    EXPECT_EQ(planned.status, 0) << planned.err;
    EXPECT_EQ(refused.status, 2) << refused.err;
    const std::string said = refused.err.substr(std::string("zerostep: ").size());
    EXPECT_EQ(count(planned.err, "warning: " + said), 1u) << planned.err << said;
    EXPECT_TRUE(said.starts_with("--set ")) << said;
    EXPECT_EQ(count(planned.err, "Make space"), 0u) << planned.err;
    EXPECT_TRUE(fs::is_empty(disk()) && !place_.exists("runs/test"));
    if (folder != "/proc/none") continue;
    // Of another machine's folders nothing is known.
    line.insert(line.end(), {"--machine", std::string(std::getenv("ZEROSTEP_SOURCE_DIR")) + "/configs/machines/8xh100.json"});
    EXPECT_EQ(count(place_.run(line).err, folder + " cannot be made"), 0u);
  }
  expect_refused(train(set("nvme", "nvme", place_.path("file")), {}, {.ranks = 2}), {key});
}

TEST_F(OffloadRun, AFolderOfThisUserAndARelativeOneAreAsAShellHasThem) {
  const Outcome home = train(set("nvme", "none", "~/made/here"), {}, {.environment = {{"HOME", disk()}}});
  EXPECT_EQ(home.status, 0) << home.err;
  EXPECT_SAYS(home.out, "\nmade           " + disk() + "/made/here: not there before");
  EXPECT_TRUE(fs::is_empty(disk() + "/made/here"));
  std::vector<std::string> command = place_.command(arguments(set("nvme", "none", "relative/folder"), {"run.name=other"}), 1);
  command.insert(command.begin(), {"sh", "-c", "cd " + disk() + R"( && exec "$0" "$@")"});
  const Outcome relative = place_.run_command(command);
  EXPECT_EQ(relative.status, 0) << relative.err;
  EXPECT_TRUE(fs::is_empty(disk() + "/relative/folder"));
}

TEST_F(OffloadRun, LimitsOfTheProcessAreNamed) {
  const auto limited = [&](const std::string& limit) {
    std::vector<std::string> command = place_.command(arguments(set("none", "nvme", disk())), 1);
    command.insert(command.begin(), {"sh", "-c", limit + R"( && exec "$0" "$@")"});
    return place_.run_command(command);
  };
  expect_refused(limited("ulimit -f 200"), {"zero_optimization.offload_optimizer.nvme_path", "may make files of at most ", "`ulimit -f`"});
  expect_refused(limited("ulimit -n 16"), {"this process may have 16 files open", "`ulimit -n "});
  EXPECT_EQ(limited("ulimit -f unlimited && ulimit -Sn 16").status, 0);
}

TEST_F(OffloadRun, WhatMovesAndWhatDoesNotIsSaid) {
  const Outcome moved = train(set("nvme", "nvme", disk()), {}, {.ranks = 2});
  ASSERT_EQ(moved.status, 0) << moved.err;
  EXPECT_SAYS(moved.out, "\nat rest        a rank: parameters: file ");
  EXPECT_SAYS(moved.out, "; gradients: file ");
  EXPECT_SAYS(moved.out, "; optimizer state: file ");
  EXPECT_SAYS(moved.out, "\nscratch        ");
  EXPECT_SAYS(moved.out, ", in " + disk() + "\n");
  EXPECT_EQ(count(moved.out, "\nfiles "), 1u) << moved.out;
  EXPECT_EQ(count(moved.err, "on the device"), 0u) << moved.err;
  // Nothing of the small model is as large as the threshold is by default.
  const std::vector<std::string> more{"zero_optimization.stage3_param_persistence_threshold=100000", "run.name=still"};
  const Outcome still = train(set("cpu", "none", disk()), more, {.ranks = 2});
  ASSERT_EQ(still.status, 0) << still.err;
  const std::string warning = "all parameters stay on the device: none is larger than stage3_param_persistence_threshold 100000";
  EXPECT_EQ(count(still.err, warning), 1u) << still.err;
  EXPECT_SAYS(place_.read("runs/still/log.txt"), warning);
  std::vector<std::string> plan = arguments(set("cpu", "none", disk()), more);
  plan.front() = "plan";
  EXPECT_SAYS(place_.run(plan).err, "warning: zero_optimization.offload_param.device is \"cpu\", and " + warning);
}

// More than any machine has.
TEST_F(OffloadRun, TiersWithoutRoomAreNamed) {
  const std::vector<std::string> large{R"(model={"family": "gpt2", "n_layer": 400, "n_embd": 16384, "n_head": 128, "n_positions": 32})"};
  std::vector<std::string> plan = arguments(set("none", "nvme", disk() + "/not/yet"), large);
  plan.front() = "plan";
  plan.insert(plan.end(), {"--world", "4", "--ranks-per-node", "2"});
  const std::string any_memory = "run.device_memory=1000000000000000",
                    of_disk =
                        "free on the disk of zero_optimization.offload_optimizer.nvme_path " + disk() + "/not/yet for each of 2 ranks";
  for (const bool is_memory_short : {true, false}) {
    std::vector<std::string> line = plan;
    if (!is_memory_short) line.insert(line.end(), {"--set", any_memory});
    const Outcome planned = place_.run(line);
    EXPECT_EQ(planned.status, 2) << planned.err;
    EXPECT_SAYS(planned.err, " in files; there are ");
    EXPECT_SAYS(planned.err, " (" + of_disk + "): ");
    EXPECT_SAYS(planned.err, "space on that disk, or an nvme_path on another");
    EXPECT_EQ(count(planned.err, "are missing"), is_memory_short ? 2u : 1u) << planned.err;
    EXPECT_EQ(count(planned.err, "no space in"), 0u) << "it is said once: " << planned.err;
    EXPECT_SAYS(planned.out, " in files: " + of_disk + "\n");
    EXPECT_TRUE(fs::is_empty(disk()));
  }
  plan.insert(plan.end(), {"--json", "--set", any_memory});
  const json told = json::parse(place_.run(plan).out);
  EXPECT_FALSE(told["fits"].get<bool>());
  EXPECT_EQ(told["file_limit_source"], of_disk);
  const auto free = static_cast<double>(fs::space(disk()).available);  // others may fill and empty it
  EXPECT_NEAR(told["file_limit_bytes"].get<double>(), free / 2, 0.3 * free);
  const auto needed = told["file_peak_bytes"].get<int64_t>();
  EXPECT_GT(needed, told["file_limit_bytes"].get<int64_t>());
  // Of a described machine its own disk counts, whatever there is here.
  plan.insert(plan.end(), {"--machine", place_.path("machine.json")});
  for (const int64_t there : {needed, needed - 1}) {
    Machine machine = small_machine();
    machine.host_bytes = 1'000'000'000'000'000;
    machine.file_bytes = there;
    write_machine(place_.path("machine.json"), machine);
    const Outcome elsewhere = place_.run(plan);
    EXPECT_EQ(elsewhere.status, there == needed ? 0 : 2) << elsewhere.err;
    EXPECT_EQ(json::parse(elsewhere.out)["file_limit_bytes"], there);
  }
  std::vector<std::string> unlimited = large;
  unlimited.push_back(any_memory);
  expect_refused(train(set("none", "nvme", disk()), large), {"a rank needs ", "free memory of this machine", "offload_param.device"});
  expect_refused(train(set("cpu", "cpu", disk()), unlimited), {"of this machine's memory", " for the host", "\"nvme\""});
}

// The same losses to the last bit, whatever rests where, in whichever order.
TEST_F(OffloadRun, AKilledRunGoesOnOnOtherTiers) {
  for (const std::string mode : {"fo", "zo"}) {
    const std::vector<std::string> more{"step.mode=" + mode, "run.checkpoint_interval=2"};
    const auto with = [&](const std::string& setting) {
      std::vector<std::string> out = more;
      out.push_back(setting);
      return out;
    };
    std::vector<std::string> whole = with("run.name=whole");
    whole.push_back("run.steps=12");
    fs::remove_all(place_.path("runs"));
    ASSERT_EQ(train(set("none", "none", disk()), whole, {.ranks = 2}).status, 0);
    const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> moves = {
        {set("nvme", "nvme", disk()), set("cpu", "none", disk())},
        {set("cpu", "nvme", disk()), set("nvme", "cpu", disk())},
        {set("none", "cpu", disk()), set("nvme", "nvme", disk())},
    };
    for (const auto& [from, to] : moves) {
      fs::remove_all(place_.path("runs/test"));
      const pid_t pid = place_.start(place_.command(arguments(from, with("run.steps=1000000")), 2), {.environment = kNoGrace});
      EXPECT_TRUE(place_.wait_for_rows("test", 5, pid));
      for (const pid_t child : children_of(pid)) ::kill(child, SIGKILL);
      place_.finish(pid);
      EXPECT_TRUE(fs::is_empty(disk()));
      // How far it came depends on the machine: what it had done is compared, and what follows up to there and two steps more.
      std::vector<std::string> resumed = arguments(to, with("run.steps=1000000"));
      std::string latest = place_.read("runs/test/checkpoints/latest");
      const int64_t done = std::stoll(latest.substr(latest.find('_') + 1));
      resumed.back() = fmt::format("run.steps={}", std::max<int64_t>(12, done + 2));
      resumed.insert(resumed.begin() + 2, "--resume");
      const Outcome on = place_.run(resumed, {.ranks = 2});
      ASSERT_EQ(on.status, 0) << on.err;
      EXPECT_SAYS(on.out, fmt::format("goes on after step {}", done));
      EXPECT_TRUE(fs::is_empty(disk()));
      const std::vector<double> losses = place_.column("test", "loss"), expected = place_.column("whole", "loss");
      ASSERT_EQ(expected.size(), 12u);
      ASSERT_GE(losses.size(), expected.size());
      EXPECT_EQ(std::vector<double>(losses.begin(), losses.begin() + 12), expected) << mode;
    }
  }
}

// Where the file system does not let the name of an open file go, a killed run leaves it, and the next one says so and removes it.
TEST_F(OffloadRun, NamesThatAKilledRunLeavesAreRemovedByTheNext) {
  const std::vector<std::string> in_files = set("nvme", "nvme", disk());
  pid_t pid = 0;
  run_without(SYS_unlink, EBUSY, [&] {
    pid = place_.start(place_.command(arguments(in_files, {"run.steps=1000000"}), 1));
    EXPECT_TRUE(place_.wait_for_rows("test", 2, pid));
    ::kill(pid, SIGKILL);
    place_.finish(pid);
  });
  const auto num_left = std::distance(fs::directory_iterator(disk()), fs::directory_iterator());
  EXPECT_GE(num_left, 2);  // of parameters and of state
  const Outcome next = train(in_files, {"run.name=next"}, {.ranks = 2});
  ASSERT_EQ(next.status, 0) << next.err;
  EXPECT_SAYS(next.out, " written a step by rank 0: ");
  // Whichever of the ranks came first.
  EXPECT_SAYS(next.err, std::to_string(num_left) + " scratch files of runs that were killed were removed from " + disk());
  EXPECT_EQ(count(next.err, "of runs that were killed"), 1u) << next.err;
  EXPECT_TRUE(fs::is_empty(disk()));
}

}  // namespace
}  // namespace zerostep::testing
