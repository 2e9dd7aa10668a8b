#include "runtime/report/step_breakdown.h"

#include <fmt/format.h>

#include "base/format.h"
#include "base/process_memory.h"

namespace zerostep {

void StepBreakdown::add(const StepTimers& t, double step_seconds) {
  sum_.data += t.data;
  sum_.forward += t.forward;
  sum_.backward += t.backward;
  sum_.wait += t.wait;
  sum_.reduce += t.reduce;
  sum_.scalars += t.scalars;
  sum_.update += t.update;
  sum_.host_update += t.host_update;
  seconds_ += step_seconds;
  ++steps_;
}

std::string StepBreakdown::take() {
  const double per_step = steps_ > 0 ? 1e3 / steps_ : 0;
  std::string out = fmt::format(
      "time (ms) | data {:.2f} | forward {:.2f} | backward {:.2f} | wait {:.2f} | reduce {:.2f} | scalars {:.2f} | update {:.2f} | step "
      "{:.2f}",
      sum_.data * per_step, sum_.forward * per_step, sum_.backward * per_step, sum_.wait * per_step, sum_.reduce * per_step,
      sum_.scalars * per_step, sum_.update * per_step, seconds_ * per_step);
  if (sum_.host_update > 0) out += fmt::format(" | beside it host update {:.2f}", sum_.host_update * per_step);
  *this = {};
  return out;
}

std::string memory_line(const MemoryMoment& m) {
  return fmt::format("memory | {} | arenas {} | LibTorch {} now, {} at most | process {}", m.when, human_bytes(m.arena_bytes),
                     human_bytes(m.live_bytes), human_bytes(m.peak_bytes), human_bytes(resident_memory().now));
}

}  // namespace zerostep
