#include "runtime/engine/step_traffic.h"

#include <algorithm>

namespace zerostep {

std::vector<PlanPart> parts_of(const TrainingPlan& plan, const StepKind& kind) {
  const Plan& backprop = plan.backprop ? *plan.backprop : plan.train;
  if (!kind.queries) return {whole(backprop)};
  const Plan& queries = kind.instructed ? *plan.instructed : plan.train;
  if (!kind.backprop) return {whole(queries)};
  if (kind.update == StepKind::Update::Gradient) return {until_agreement(backprop), until_agreement(queries), after_agreement(backprop)};
  return {until_agreement(backprop), whole(queries)};
}

std::vector<const Action*> actions_of(const TrainingPlan& plan, const StepKind& kind) {
  std::vector<const Action*> out;
  for (const PlanPart& part : parts_of(plan, kind))
    for (int i = part.begin; i < part.end; ++i) out.push_back(&part.plan->actions[static_cast<size_t>(i)]);
  return out;
}

int64_t elements_beside_actions(const StepConfig& config, const StepKind& kind, int world) {
  // The plan of instructed queries counts its own cosine; that of other queries counts a norm, which they take where they update.
  if (!kind.backprop || !kind.queries || kind.instructed) return 0;
  return (world - 1) * (kCosineScalars - (config.exact_norm ? 1 : 0));
}

int64_t elements_of_first_step(const Config& config, int world) {
  return step_kind(config.step, 0).queries && is_16bit(config.precision.compute) ? (world - 1) * kUnchangedScalars : 0;
}

StepTraffic traffic_of(const Config& config, const TrainingPlan& plan, const StepKind& kind) {
  StepTraffic out{0, elements_beside_actions(config.step, kind, plan.train.options.world)};
  for (const Action* a : actions_of(plan, kind)) {
    out.elements_gathered += a->elements_gathered;
    out.elements_reduced += a->elements_reduced;
  }
  return out;
}

StepTraffic busiest_traffic(const Config& config, const TrainingPlan& plan) {
  StepTraffic out;
  const auto add = [&](const StepTraffic& t) {
    out = {std::max(out.elements_gathered, t.elements_gathered), std::max(out.elements_reduced, t.elements_reduced)};
  };
  for (const StepKind& kind : step_kinds(config.step)) add(traffic_of(config, plan, kind));
  StepTraffic first = traffic_of(config, plan, step_kind(config.step, 0));
  first.elements_reduced += elements_of_first_step(config, plan.train.options.world);
  add(first);
  return out;
}

}  // namespace zerostep
