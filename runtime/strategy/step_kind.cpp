#include "runtime/strategy/step_kind.h"

namespace zerostep {
namespace {

using Mode = StepConfig::Mode;
using Update = StepKind::Update;

constexpr StepKind kGradient{true, false, Update::Gradient, false}, kEstimate{false, true, Update::Estimate, false},
    kMonitored{true, true, Update::Gradient, false}, kInstructed{true, true, Update::Blend, true};

}  // namespace

StepKind step_kind(const StepConfig& config, int64_t step) {
  const bool interval = config.bp_interval > 0 && (step + 1) % config.bp_interval == 0;
  switch (config.mode) {
    case Mode::FirstOrder:
      return kGradient;
    case Mode::ZerothOrder:
      return kEstimate;
    case Mode::Calibrate:
      if (!interval) return kEstimate;
      return config.monitor_interval > 0 && (step + 1) / config.bp_interval % config.monitor_interval == 0 ? kMonitored : kGradient;
    case Mode::Instruct:
      return interval ? kInstructed : kEstimate;
    case Mode::Alternating:
      // zo_steps may be the largest integer, to which no 1 can be added.
      return (step <= config.zo_steps ? step : step % (config.zo_steps + 1)) == 0 ? kGradient : kEstimate;
  }
  return kGradient;
}

std::vector<StepKind> step_kinds(const StepConfig& config) {
  std::vector<StepKind> out;
  const bool mixed = config.mode == Mode::Calibrate || config.mode == Mode::Instruct;
  if (config.mode == Mode::ZerothOrder || config.mode == Mode::Alternating || (mixed && config.bp_interval != 1)) out.push_back(kEstimate);
  if (config.mode == Mode::FirstOrder || config.mode == Mode::Alternating) out.push_back(kGradient);
  if (config.mode == Mode::Calibrate && config.bp_interval > 0) {
    if (config.monitor_interval != 1) out.push_back(kGradient);
    if (config.monitor_interval > 0) out.push_back(kMonitored);
  }
  if (config.mode == Mode::Instruct && config.bp_interval > 0) out.push_back(kInstructed);
  return out;
}

double share_of(const StepConfig& config, const StepKind& kind) {
  double backprop = config.uses_queries() ? 0 : 1, monitored = 0;
  if (config.mode == Mode::Alternating) backprop = 1 / (1 + static_cast<double>(config.zo_steps));
  if (config.bp_interval > 0) backprop = 1 / static_cast<double>(config.bp_interval);
  if (config.mode == Mode::Calibrate && config.monitor_interval > 0) monitored = backprop / static_cast<double>(config.monitor_interval);
  return kind == kMonitored ? monitored : kind.backprop ? backprop - monitored : 1 - backprop;
}

const char* name_of(const StepKind& kind) {
  return kind.backprop && kind.queries ? "backprop and queries" : kind.backprop ? "backprop" : "queries";
}

}  // namespace zerostep
