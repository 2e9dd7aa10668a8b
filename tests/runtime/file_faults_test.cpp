#include "tests/runtime/support/file_faults.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <regex>

#include "base/error.h"
#include "sharding/local_ranks.h"
#include "tests/offload/support/file_queues.h"

// What reads and writes of files may do to a whole run: anything that the system permits changes no bit, and what fails ends the run of all
// ranks at once, with one message, and leaves nothing on the disk.
namespace zerostep::testing {
namespace {

using Mode = StepConfig::Mode;

ZerothOrderOutcome run(const ZerothOrderCase& test, int ranks) {
  return run_zeroth_order_threads(test, ranks, {.updates = updates_of(test)});
}

TEST(FileFaults, WhatTheSystemMayDoGivesTheSameBits) {
  std::atomic<int> num_faults = 0;
  const auto shortened = [&](int n, const IoRequest& request) {
    const int64_t less = request.num_bytes / 2 / kFileAlignmentBytes * kFileAlignmentBytes;
    if (n % 2 == 0 || less == 0) return request.num_bytes;
    ++num_faults;
    return less;
  };
  const auto interrupted = [&](int n, const IoRequest&) -> std::optional<int64_t> {
    if (n % 3 != 0) return std::nullopt;
    ++num_faults;
    return n % 2 == 0 ? -EINTR : -EAGAIN;
  };
  const std::vector<std::pair<const char*, std::function<void(Faults&)>>> faults = {
      {"short", [&](Faults& f) { f.shorten = shortened; }},
      {"interrupted", [&](Faults& f) { f.answer = interrupted; }},
      {"slow", [](Faults& f) { f.delay_milliseconds = 1; }},
      {"reordered", [](Faults& f) { f.is_reordered = true; }},
      {"all", [&](Faults& f) { f.shorten = shortened, f.answer = interrupted, f.delay_milliseconds = 1, f.is_reordered = true; }},
  };
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder})
    for (const int ranks : {1, 2}) {
      ZerothOrderCase test = case_in_files(mode);
      const ZerothOrderOutcome resident = run(test, ranks);
      const TierFolder folder;
      put(test.config, {Tier::File, Tier::File}, folder);
      for (const QueueKind kind : queue_kinds())
        for (const auto& [name, set] : faults) {
          SCOPED_TRACE(fmt::format("{}, {} ranks, {}, {}", test.config.step.mode_name, ranks, ::testing::PrintToString(kind), name));
          num_faults = 0;
          test.config.aio.options.make_queue = faulty_queues(kind, set);
          expect_same(run(test, ranks), resident);
          const std::string what = name;
          if (what == "short" || what == "interrupted" || what == "all") {
            EXPECT_GT(num_faults, 20);
          }
        }
    }
}

TEST(FileFaults, AnErrorEndsTheRunOfAllRanksWithOneMessage) {
  for (const Mode mode : {Mode::FirstOrder, Mode::ZerothOrder})
    for (const QueueKind kind : queue_kinds())
      for (const FaultCase& fault : fault_cases())
        for (const int ranks : {1, 2}) {
          SCOPED_TRACE(fmt::format("{}, {}, {}, {} ranks", static_cast<int>(mode), ::testing::PrintToString(kind), fault.said, ranks));
          ZerothOrderCase test = case_in_files(mode);
          test.share_over(ranks);
          const TierFolder folder;
          put(test.config, {Tier::File, Tier::File}, folder);
          const auto start = std::chrono::steady_clock::now();
          std::string said;
          try {
            run_local_ranks(ranks, {.timeout_seconds = 60}, [&](Communicator world) {
              run_with_fault(test, world, kind, fault);  // of the last rank
            });
          } catch (const RunError& error) {
            said = error.what();
          }
          EXPECT_TRUE(std::regex_match(said, std::regex(message_of(fault, ranks - 1, folder)))) << said;
          EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30)) << "a rank waited for its time-out";
        }
}

}  // namespace
}  // namespace zerostep::testing
