#include "runtime/engine/step_traffic.h"

#include <algorithm>

namespace zerostep {

int64_t elements_of_unchanged_share(const Config& config, int world) {
  return step_kind(config.step, 0).queries && is_16bit(config.precision.compute) ? (world - 1) * kUnchangedScalars : 0;
}

StepTraffic traffic_of(const TrainingPlan& plan, const StepKind& kind) {
  const Plan& step = plan.step(kind);
  return {step.elements_gathered, step.elements_reduced};
}

StepTraffic busiest_traffic(const Config& config, const TrainingPlan& plan) {
  StepTraffic out;
  const auto add = [&](const StepTraffic& t) {
    out = {std::max(out.elements_gathered, t.elements_gathered), std::max(out.elements_reduced, t.elements_reduced)};
  };
  for (const StepKind& kind : step_kinds(config.step)) add(traffic_of(plan, kind));
  StepTraffic first = traffic_of(plan, step_kind(config.step, 0));
  first.elements_reduced += elements_of_unchanged_share(config, plan.train.options.world);
  add(first);
  return out;
}

}  // namespace zerostep
