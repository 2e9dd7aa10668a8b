#include "runtime/timing/measure_machine.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/nth.h"
#include "runtime/timing/call_meter.h"
#include "runtime/timing/measured_parts.h"
#include "sharding/local_ranks.h"
#include "tests/support/expect_says.h"
#include "tests/support/scratch_folder.h"

namespace zerostep {
namespace {

std::vector<MeasuredMachine> measured_on(int ranks, const std::string& scratch) {
  at::set_num_threads(1);
  std::vector<MeasuredMachine> found(static_cast<size_t>(ranks));
  run_local_ranks(ranks, {}, [&](const Communicator& group) {
    MeasureOptions options;
    options.ranks_per_host = ranks;
    options.seconds = 0.5;
    options.scratch_folder = scratch;
    nth(found, group.rank()) = measure_machine(group, options, Device::cpu(), host_kernels());
  });
  return found;
}

void expect_figures(const Machine& m) {
  for (const DType type : {DType::F32, DType::BF16, DType::F16}) {
    EXPECT_GT(gemm_flops_per_second(m, type, 16, 256), 1e6) << name_of(type);
    EXPECT_LT(gemm_flops_per_second(m, type, 4096, 4096), 1e14) << name_of(type);
    EXPECT_GT(elementwise_bytes_per_second(m, type), 1e6) << name_of(type);
    for (const bool backward : {false, true}) {
      EXPECT_GT(attention_rate(m, type, backward).flops_per_second, 1e6) << name_of(type);
      EXPECT_GE(attention_rate(m, type, backward).head_seconds, 0) << name_of(type);
    }
  }
  for (const GemmRate& rate : m.gemm) EXPECT_GT(rate.flops_per_second, 0) << name_of(rate.type) << rate.rows << "x" << rate.width;
  EXPECT_GT(m.operation_seconds, 1e-8);
  EXPECT_LT(m.operation_seconds, 1e-3);
  EXPECT_GT(m.memory_bytes_per_second, 1e7);
  EXPECT_GT(m.noise_elements_per_second, 1e6);
  EXPECT_GT(m.noise_16bit_elements_per_second, 1e6);
  EXPECT_GT(m.update_bytes_per_second, 1e7);
  EXPECT_GT(m.host_bytes, 0);
}

TEST(MeasureMachine, EveryRankHasTheFiguresOfAll) {
  const ScratchFolder scratch;
  const std::vector<MeasuredMachine> found = measured_on(2, scratch.folder().string());
  const Machine& m = found[0].machine;
  expect_figures(m);
  EXPECT_EQ(m.ranks_per_host, 2);
  EXPECT_EQ(m.threads_per_rank, 1);
  for (const Link* link : {&m.file_read, &m.file_write, &m.gather_in_host, &m.reduce_in_host}) {
    EXPECT_GT(link->bytes_per_second, 1e6);
    EXPECT_GT(link->latency_seconds, 0);
    EXPECT_LT(link->latency_seconds, 0.1);
  }
  EXPECT_FALSE(m.gather_across_hosts.is_known());
  EXPECT_GT(m.agreement_seconds, 0);
  EXPECT_GT(m.file_bytes, 0);
  EXPECT_EQ(m.measured_seconds, 0.5);
  EXPECT_EQ(m.is_unsteady, found[1].machine.is_unsteady);
  EXPECT_EQ(found[0].disturbed, found[1].disturbed);
  EXPECT_TRUE(std::filesystem::is_empty(scratch.folder())) << "scratch files are left";
  for (const auto& [name, spread] : found[0].spreads) EXPECT_GE(spread, 0) << name;

  // A file of the one is a file of the other.
  const ScratchFolder files;
  write_machine(files.path("0"), m);
  write_machine(files.path("1"), found[1].machine);
  const Machine a = read_machine(files.path("0")), b = read_machine(files.path("1"));
  EXPECT_EQ(a.gemm.size(), b.gemm.size());
  EXPECT_EQ(a.update_bytes_per_second, b.update_bytes_per_second);
  EXPECT_EQ(a.host_bytes, b.host_bytes);
  EXPECT_EQ(a.reduce_in_host.bytes_per_second, b.reduce_in_host.bytes_per_second);
}

TEST(MeasureMachine, ADiskThatTakesNoFileIsLeftOut) {
  const MeasuredMachine found = measured_on(1, "/proc").front();
  expect_figures(found.machine);
  EXPECT_FALSE(found.machine.file_read.is_known());
  EXPECT_FALSE(found.machine.file_write.is_known());
  EXPECT_SAYS(found.disk, "left out");
  EXPECT_SAYS(found.disk, "/proc");
  EXPECT_FALSE(found.machine.gather_in_host.is_known());
}

TEST(CallMeters, GiveTheMeanOfTheRanksMedians) {
  run_local_ranks(2, {}, [](const Communicator& group) {
    CallMeter meter(group);
    int calls = 0;
    // Every fifth call takes much longer, which a median does not see.
    const double seconds = meter.seconds_of("naps", 0.1, [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds((group.rank() == 0 ? 2 : 6) + (++calls % 5 == 0 ? 20 : 0)));
    });
    EXPECT_GE(seconds, 0.004);
    EXPECT_LT(seconds, 0.012);
    EXPECT_EQ(meter.take_spreads().count("naps"), 1u);
    EXPECT_EQ(meter.take_spreads().count("naps"), 0u);
    EXPECT_TRUE(meter.any(group.rank() == 1));
    EXPECT_FALSE(meter.any(false));
    EXPECT_EQ(meter.least_of(group.rank() == 0 ? 7.5 : 5.5), 5.5);
    EXPECT_EQ(meter.most_of(group.rank() == 0 ? 7.5 : 5.5), 7.5);
    int64_t short_calls = 0;
    meter.seconds_of("short", 0.01, [&] { ++short_calls; });
    EXPECT_GT(short_calls, 1000) << "calls that are shorter than the clock are repeated";
  });
}

// On one rank alone, which all of them wait for.
TEST(CallMeters, StopWhatTakesLongerThanItIsGiven) {
  run_local_ranks(2, {}, [](const Communicator& group) {
    CallMeter meter(group);
    int calls = 0;
    const auto nap = [&](int milliseconds) {
      ++calls;
      if (group.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    };
    EXPECT_GE(meter.seconds_of("longer than all of the time", 0.01, [&] { nap(50); }), 0.02);
    EXPECT_EQ(calls, 2);
    EXPECT_GT(meter.take_spreads().at("longer than all of the time"), kSteadySpread) << "one repetition tells nothing of steadiness";
    // The first calls are fast, as where another program begins to run after them.
    calls = 0;
    meter.seconds_of("slower later", 0.1, [&] { nap(calls < 3 ? 2 : 40); });
    EXPECT_LE(calls, 4 + 13) << "of 50 repetitions, of which 13 take 0.5 s";
    EXPECT_GE(calls, 4);
  });
}

// Wherever the time runs out between two looks at the clock, there is a call that was timed.
TEST(CallMeters, GiveATimeForAnyBudget) {
  run_local_ranks(1, {}, [](const Communicator& group) {
    CallMeter meter(group);
    for (int nanoseconds = 0; nanoseconds < 20000; nanoseconds += 5)
      ASSERT_GT(meter.seconds_of("a short call", 1e-9 * nanoseconds, [] { std::this_thread::yield(); }), 0) << nanoseconds;
  });
}

}  // namespace
}  // namespace zerostep
