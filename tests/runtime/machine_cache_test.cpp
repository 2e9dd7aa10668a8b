#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/user_cache_folder.h"
#include "runtime/timing/machine.h"
#include "tests/runtime/support/machine_file.h"
#include "tests/support/expect_says.h"

// What `zerostep bench machine` keeps for later calls, and which of two measurements stays.
namespace zerostep {
namespace {

using testing::described;
using MachineCache = testing::MachineFile;

// Environment variables as the test sets them, until it ends.
class Environment {
 public:
  ~Environment() {
    for (const auto& [name, value] : before_) value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
  }
  void set(const std::string& name, const std::string& value) {
    const char* old = std::getenv(name.c_str());
    before_.emplace_back(name, old == nullptr ? std::nullopt : std::optional<std::string>(old));
    setenv(name.c_str(), value.c_str(), 1);
  }

 private:
  std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

TEST_F(MachineCache, MeasuredMachinesAreFoundByRanksAndThreads) {
  Environment environment;
  environment.set("XDG_CACHE_HOME", scratch_.path("cache"));
  EXPECT_FALSE(measured_machine(1, 1)) << "nothing was measured";
  Machine machine = read(described());
  for (const auto& [ranks, threads] : {std::pair(1, 4), std::pair(4, 1), std::pair(2, 2)}) {
    machine.ranks_per_host = ranks;
    machine.threads_per_rank = threads;
    machine.operation_seconds = 1e-6 * ranks;
    const std::string file = keep_measured_machine(machine).file;
    EXPECT_SAYS(file, scratch_.path("cache") + "/zerostep/machines/");
    EXPECT_TRUE(std::filesystem::exists(file)) << file;
  }
  const auto found = [](int ranks, int threads) {
    const std::optional<Machine> nearest = measured_machine(ranks, threads);
    return nearest ? std::pair(nearest->ranks_per_host, nearest->threads_per_rank) : std::pair(0, 0);
  };
  EXPECT_EQ(found(4, 1), std::pair(4, 1));
  EXPECT_EQ(found(2, 2), std::pair(2, 2));
  EXPECT_DOUBLE_EQ(measured_machine(2, 2)->operation_seconds, 2e-6);
  EXPECT_EQ(found(1, 3), std::pair(1, 4)) << "the nearest";
  EXPECT_EQ(found(64, 1), std::pair(4, 1));
  EXPECT_EQ(found(2, 3), std::pair(2, 2));
  std::ofstream(keep_measured_machine(machine).file) << "{ damaged";
  EXPECT_NE(found(2, 2), std::pair(2, 2)) << "a file that cannot be read is as if it were not there";
  EXPECT_TRUE(keep_measured_machine(machine).replaces_unreadable);
  EXPECT_FALSE(keep_measured_machine(machine).replaces_unreadable);
  environment.set("ONEDNN_MAX_CPU_ISA", "SSE41");
  EXPECT_EQ(found(4, 1), std::pair(0, 0)) << "another machine";
}

TEST_F(MachineCache, BetterFiguresAreNotReplacedUnasked) {
  Environment environment;
  environment.set("XDG_CACHE_HOME", scratch_.path("cache"));
  // Each kind of figures by its seconds.
  const auto of = [&](double seconds, bool is_unsteady) {
    Machine machine = read(described());
    machine.measured_seconds = seconds;
    machine.is_unsteady = is_unsteady;
    return machine;
  };
  const auto now = [] {
    const Machine machine = *measured_machine(2, 3);
    return std::pair(machine.measured_seconds, machine.is_unsteady);
  };
  struct Case {
    std::pair<double, bool> before, later;
    std::string better;  // "": the later are kept
  };
  for (const Case& c : {Case{{10, false}, {10, false}, ""}, Case{{10, false}, {25, false}, ""},
                        Case{{25, false}, {10, false}, "of a longer measurement, 25 s"}, Case{{10, false}, {25, true}, "steady"},
                        Case{{25, true}, {10, false}, ""}, Case{{10, true}, {10, true}, ""},
                        Case{{25, true}, {10, true}, "of a longer measurement, 25 s"}, Case{{50.0 / 3, false}, {50.0 / 3, false}, ""}}) {
    EXPECT_EQ(keep_measured_machine(of(c.before.first, c.before.second), true).why_not, "");
    const Keeping keeping = keep_measured_machine(of(c.later.first, c.later.second));
    EXPECT_EQ(keeping.why_not, c.better.empty() ? "" : "the figures in " + keeping.file + " are " + c.better + "; --force replaces them");
    EXPECT_TRUE(std::filesystem::exists(keeping.file));
    const std::pair<double, bool>& expected = c.better.empty() ? c.later : c.before;
    EXPECT_NEAR(now().first, expected.first, 1e-3);
    EXPECT_EQ(now().second, expected.second);
    EXPECT_EQ(keep_measured_machine(of(c.later.first, c.later.second), true).why_not, "") << "they are asked for";
    EXPECT_NEAR(now().first, c.later.first, 1e-3);
    EXPECT_EQ(now().second, c.later.second);
  }
  // A measurement that had no room for files leaves theirs.
  Machine partial = of(50, false);
  partial.file_read = partial.file_write = {};
  EXPECT_EQ(keep_measured_machine(of(10, false), true).why_not, "");
  EXPECT_SAYS(keep_measured_machine(partial).why_not, "more: they have files, which this measurement left out");
  EXPECT_NEAR(now().first, 10, 1e-3);
  // Nothing reads links between hosts from there: a measurement with them and one without replace one another.
  Machine hosts = of(10, false);
  hosts.gather_across_hosts = hosts.reduce_across_hosts = {1e-5, 1e9};
  EXPECT_EQ(keep_measured_machine(hosts, true).why_not, "");
  EXPECT_EQ(keep_measured_machine(of(12, false)).why_not, "");
  EXPECT_NEAR(now().first, 12, 1e-3);
  hosts.measured_seconds = 15;
  EXPECT_EQ(keep_measured_machine(hosts).why_not, "");
  EXPECT_TRUE(measured_machine(2, 3)->gather_in_host.is_known());
  // Of another number of threads, or another machine, nothing was kept before.
  Machine other = of(1, true);
  other.threads_per_rank = 8;
  EXPECT_EQ(keep_measured_machine(other).why_not, "");
  environment.set("ONEDNN_MAX_CPU_ISA", "SSE41");
  EXPECT_EQ(keep_measured_machine(of(1, true)).why_not, "");
  EXPECT_EQ(now(), std::pair(1.0, true));
}

// A slow neighbour of minutes looks steady: of two measurements alike each figure is the faster one's.
TEST_F(MachineCache, OfTwoMeasurementsTheFasterFiguresAreKept) {
  Environment environment;
  environment.set("XDG_CACHE_HOME", scratch_.path("cache"));
  Machine first = read(described());
  first.measured_seconds = 10;
  Machine second = first;
  second.name = "the same again";
  second.gemm.front().flops_per_second *= 1.5;
  second.gemm.back().flops_per_second *= 0.5;
  first.gemm.push_back({DType::F32, 64, 4096, 2e12});
  second.elementwise.front().bytes_per_second *= 0.5;
  second.operation_seconds *= 2;
  second.memory_bytes_per_second *= 2;
  second.noise_elements_per_second *= 0.5;
  second.file_read = {first.file_read.latency_seconds, 2 * first.file_read.bytes_per_second};
  second.file_write = {first.file_write.latency_seconds, 0.5 * first.file_write.bytes_per_second};
  second.host_bytes = first.host_bytes / 2;
  const auto expect_close = [](double a, double b) { EXPECT_NEAR(a, b, 1e-4 * b); };
  EXPECT_EQ(keep_measured_machine(first).num_earlier, 0);
  const Keeping keeping = keep_measured_machine(second);
  EXPECT_EQ(keeping.why_not, "");
  EXPECT_EQ(keeping.num_earlier, 5) << "a product, one that the later left out, operations, their duration, noise";
  const Machine kept = *measured_machine(2, 3);
  EXPECT_EQ(kept.name, "the same again");
  EXPECT_EQ(kept.host_bytes, second.host_bytes) << "what is free is not a speed";
  expect_close(kept.gemm.front().flops_per_second, second.gemm.front().flops_per_second);
  ASSERT_EQ(kept.gemm.size(), 3u);
  expect_close(kept.gemm[1].flops_per_second, first.gemm[1].flops_per_second);
  expect_close(gemm_flops_per_second(kept, DType::F32, 64, 4096), 2e12);
  expect_close(kept.elementwise.front().bytes_per_second, first.elementwise.front().bytes_per_second);
  expect_close(kept.operation_seconds, first.operation_seconds);
  expect_close(kept.memory_bytes_per_second, second.memory_bytes_per_second);
  expect_close(kept.noise_elements_per_second, first.noise_elements_per_second);
  expect_close(kept.file_read.bytes_per_second, second.file_read.bytes_per_second);
  expect_close(kept.file_write.bytes_per_second, second.file_write.bytes_per_second);  // perhaps of another disk
  // A longer one, and one that is asked for, stand alone.
  second.measured_seconds = 20;
  EXPECT_EQ(keep_measured_machine(second).num_earlier, 0);
  expect_close(measured_machine(2, 3)->noise_elements_per_second, second.noise_elements_per_second);
  first.measured_seconds = 20;
  EXPECT_EQ(keep_measured_machine(first, true).num_earlier, 0);
  expect_close(measured_machine(2, 3)->memory_bytes_per_second, first.memory_bytes_per_second);
}

TEST_F(MachineCache, WithoutACacheNothingIsKept) {
  Environment environment;
  std::ofstream(scratch_.path("file")) << "no folder";
  environment.set("XDG_CACHE_HOME", scratch_.path("file"));
  EXPECT_SAYS(keep_measured_machine(read(described())).why_not, "cannot make the file " + scratch_.path("file"));
  EXPECT_FALSE(measured_machine(1, 1));
}

// A pipe would be waited for.
TEST_F(MachineCache, WhatIsNoFileIsNotRead) {
  Environment environment;
  environment.set("XDG_CACHE_HOME", scratch_.path("cache"));
  const Machine machine = read(described());
  const std::string file = keep_measured_machine(machine).file;
  for (const bool is_pipe : {true, false}) {
    std::filesystem::remove(file);
    ASSERT_EQ(is_pipe ? ::mkfifo(file.c_str(), 0600) : ::mkdir(file.c_str(), 0700), 0);
    EXPECT_FALSE(measured_machine(2, 3));
    for (const bool replaces_any : {false, true})
      EXPECT_EQ(keep_measured_machine(machine, replaces_any).why_not, file + " is there and no file");
    std::filesystem::remove(file);
  }
  EXPECT_EQ(keep_measured_machine(machine).why_not, "");
  EXPECT_TRUE(measured_machine(2, 3));
}

TEST_F(MachineCache, ARelativeCacheFolderIsIgnored) {
  Environment environment;
  environment.set("HOME", scratch_.path("home"));
  for (const char* relative : {"cache", "./cache", "~/cache"}) {
    environment.set("XDG_CACHE_HOME", relative);
    EXPECT_EQ(user_cache_folder(), scratch_.path("home") + "/.cache/zerostep") << relative;
  }
}

}  // namespace
}  // namespace zerostep
