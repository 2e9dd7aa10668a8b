#pragma once
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "tests/offload/support/faulty_queue.h"
#include "tests/offload/support/file_queues.h"
#include "tests/runtime/support/tier_folder.h"
#include "tests/runtime/support/zeroth_order_case.h"

namespace zerostep::testing {

// Queues with faults of their own each, as lanes are threads.
inline IoQueueMaker faulty_queues(QueueKind kind, std::function<void(Faults&)> set) {
  const IoQueueMaker sound = kind == QueueKind::IoUring ? IoQueueMaker(make_uring_queue) : thread_queues();
  return [sound, set = std::move(set)](const AioOptions& aio) {
    const auto faults = std::make_shared<Faults>();
    set(*faults);
    return std::make_unique<FaultyQueue>(faults, sound(aio));
  };
}

// A small run at stage 3 whose chunks take several requests each.
inline ZerothOrderCase case_in_files(StepConfig::Mode mode) {
  ZerothOrderCase test = ZerothOrderCase::tiny(StepConfig::Mode::ZerothOrder);
  if (mode == StepConfig::Mode::FirstOrder) test.config.step = StepConfig();
  test.share_over(1);
  test.config.zero.stage = 3;
  test.config.zero.overlap_comm = true;
  test.config.gradient_clipping = 0;
  test.config.aio.options.block_size = 2 * kFileAlignmentBytes;
  test.config.aio.options.queue_depth = 3;
  return test;
}

inline Updates updates_of(const ZerothOrderCase& test) { return test.config.step.uses_backprop() ? Updates::Immediate : Updates::Deferred; }

// What happens to reads, or to writes, from step 1 on (`result`: what the system answers), or where that is 0 to all from some request on.
struct FaultCase {
  bool is_write = false;
  int64_t result = 0;
  bool is_refused = false;  // by the queue; else no answer comes
  std::string said;         // at the end, of the system
};

inline std::vector<FaultCase> fault_cases() {
  return {{false, -EIO, false, "Input/output error"},
          {true, -EIO, false, "Input/output error"},
          {true, -ENOSPC, false, "no space for it \\(No space left on device\\)"},
          {false, 0, false, "no answer of the disk within 0.3 seconds \\(.*\\)"},
          {false, 0, true, "this queue takes no more"}};
}

// Three steps on one rank of `world`, the last of which has the fault. Device: of each rank.
inline void run_with_fault(ZerothOrderCase test, Communicator world, QueueKind kind, const FaultCase& fault,
                           const Device& device = Device::cpu()) {
  const auto is_armed = std::make_shared<std::atomic<bool>>(false);
  test.config.aio.options.stall_seconds = 0.3;
  test.config.aio.options.make_queue = faulty_queues(kind, [&, rank = world.rank(), last = world.size() - 1, is_armed](Faults& f) {
    if (rank != last) return;
    if (fault.result == 0) (fault.is_refused ? f.num_refused_after : f.num_lost_after) = 30;
    if (fault.result != 0)
      f.answer = [=](int, const IoRequest& request) {
        return *is_armed && request.is_write == fault.is_write ? std::optional(fault.result) : std::nullopt;
      };
  });
  run_zeroth_order(test, world,
                   {.before_step = [&](int64_t step, Engine&) { *is_armed = step >= 1; }, .device = device, .updates = updates_of(test)});
}

// What the run ends with, as a regular expression: the step where there is one, rank, chunk, buffer and group, what was done, how many
// bytes, where in which folder, what the system said, and what to do.
// `first_step`: the first that may have the fault; of a GPU that of the step before, whose files the host does not wait for.
inline std::string message_of(const FaultCase& fault, int rank, const TierFolder& folder, int first_step = 1) {
  return fmt::format(
      R"({}\[file tier\] rank {}: chunk \d+ of (parameters|gradients|masters|masters and optimizer state|optimizer state) \S.*: )"
      R"(cannot {} \d+ bytes at offset \d+ of {}/\S+: {}\. Look at that disk .*zero_optimization\.offload_(param|optimizer)\.nvme_path .*)",
      fault.result == 0 ? "(step \\d: )?" : fmt::format("step [{}-2]: ", first_step), rank,
      fault.result == 0 ? "(read|write)"
      : fault.is_write  ? "write"
                        : "read",
      folder.path, fault.said);
}

}  // namespace zerostep::testing
