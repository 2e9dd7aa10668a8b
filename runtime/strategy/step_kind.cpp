#include "runtime/strategy/step_kind.h"

namespace zerostep {

StepKind step_kind(const StepConfig& config, int64_t step) {
  using Mode = StepConfig::Mode;
  using Update = StepKind::Update;
  const StepKind gradient{true, false, Update::Gradient, false}, estimate{false, true, Update::Estimate, false};
  const bool interval = config.bp_interval > 0 && (step + 1) % config.bp_interval == 0;
  switch (config.mode) {
    case Mode::FirstOrder:
      return gradient;
    case Mode::ZerothOrder:
      return estimate;
    case Mode::Calibrate: {
      if (!interval) return estimate;
      const bool measured = config.monitor_interval > 0 && (step + 1) / config.bp_interval % config.monitor_interval == 0;
      return {true, measured, Update::Gradient, false};
    }
    case Mode::Instruct:
      return interval ? StepKind{true, true, Update::Blend, true} : estimate;
    case Mode::Alternating:
      return step % (config.zo_steps + 1) == 0 ? gradient : estimate;
  }
  return gradient;
}

}  // namespace zerostep
