#pragma once
#include <string>

#include "runtime/state/step_timers.h"

namespace zerostep {

// DeepSpeed's wall_clock_breakdown: where the mean step since the last report went, in milliseconds (StepTimers).
class StepBreakdown {
 public:
  void add(const StepTimers& timers, double step_seconds);
  // "time (ms) | forward 12.3 | backward ..."; starts over.
  std::string take();

 private:
  StepTimers sum_;
  double seconds_ = 0;
  int steps_ = 0;
};

// One line of memory_breakdown: what this rank's arenas and LibTorch hold now and held at most, and the process as the system sees it.
struct MemoryMoment {
  std::string when;
  long long arena_bytes = 0, live_bytes = 0, peak_bytes = 0;
};
std::string memory_line(const MemoryMoment& moment);

}  // namespace zerostep
