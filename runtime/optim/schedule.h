#pragma once
#include <cstdint>
#include <memory>

#include "runtime/config/config.h"

namespace zerostep {

// Learning rate (and momentum) of each applied step: a pure function of k, the number of updates applied before it (skipped steps do not
// count).
struct ScheduledValues {
  double lr;
  double beta1, beta2;  // OneCycle with cycle_momentum changes them; else the optimizer's
  double momentum;
};
class LrSchedule {
 public:
  virtual ~LrSchedule() = default;
  virtual ScheduledValues at(int64_t applied_steps) const = 0;
};
// DeepSpeed 0.19's formulas (deepspeed/runtime/lr_schedules.py): applied step k uses it = k - 1.
std::unique_ptr<LrSchedule> make_lr_schedule(const SchedulerConfig& scheduler, const OptimizerConfig& optimizer);

}  // namespace zerostep
