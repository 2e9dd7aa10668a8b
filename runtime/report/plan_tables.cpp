#include "runtime/report/plan_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "runtime/report/format.h"
#include "runtime/report/plan_report.h"

namespace zerostep {
namespace {

// Buffers are named after their kind and the group they belong to.
std::string kind_of(const std::string& name) {
  constexpr std::array kKinds{"parameters", "masters", "gradients", "optimizer state", "slots of parameters", "slots of gradients"};
  for (const char* kind : kKinds)
    if (name.starts_with(kind)) return kind;
  return name;
}

std::string visit_text(const ModelLayout& layout, const Visit& v) {
  const std::string& unit = layout.units[static_cast<size_t>(v.unit)].name;
  if (v.kind != VisitKind::ForwardOnly || v.branches * v.micro_batches == 1)
    return fmt::format("{} {} (micro-batch {})", name_of(v.kind), unit, v.micro_batch);
  return fmt::format("{} {} (pass {}: {} branch{} of {} micro-batch{})", name_of(v.kind), unit, v.pass, v.branches,
                     v.branches == 1 ? "" : "es", v.micro_batches, v.micro_batches == 1 ? "" : "es");
}

std::string action_text(const TrainingPlan& training, const Plan& plan, const Action& a) {
  const ModelLayout& layout = training.layout;
  const auto group = [&](int id) { return layout.groups[static_cast<size_t>(id)].name; };
  const auto parts = [&] {
    std::string names;
    for (const CollectivePart& p : a.parts) {
      names += (names.empty() ? "" : ", ") + group(p.group);
      const size_t slices = layout.groups[static_cast<size_t>(p.group)].layout.slices().size();
      if (slices > 1) names += fmt::format("[{}..{} of {}]", p.slice_begin, p.slice_end - 1, slices);
    }
    return names;
  };
  std::string text = name_of(a.kind);
  switch (a.kind) {
    case ActionKind::Gather:
      text += fmt::format(" {} -> slot {}", group(a.group), a.slot);
      break;
    case ActionKind::Release:
    case ActionKind::GatherGradient:
      text += " " + group(a.group);
      break;
    case ActionKind::Visit:
      text = visit_text(layout, plan.visits[static_cast<size_t>(a.visit)]);
      break;
    case ActionKind::Reduce:
    case ActionKind::GatherUpdated:
      text += " " + parts() + (a.accumulate ? " (accumulating)" : "");
      break;
    case ActionKind::UpdateMatrices: {
      const auto& round = plan.matrices.rounds[static_cast<size_t>(a.round)];
      text += fmt::format(" of round {}, {} of them", a.round, round.parameters.size());
      break;
    }
    case ActionKind::Update:
      text += fmt::format(" {} [{}, {})", group(a.group), a.begin, a.end);
      break;
    case ActionKind::Scalars:
      break;
  }
  if (a.elements_gathered > 0) text += fmt::format("; gathers {}", grouped(a.elements_gathered));
  if (a.elements_reduced > 0) text += fmt::format("; reduces {}", grouped(a.elements_reduced));
  return text;
}

}  // namespace

std::vector<CollectiveTotal> collectives_of(const StepConfig& config, const TrainingPlan& training, const StepKind& kind) {
  const PlanOptions& options = training.train.options;
  std::vector<CollectiveTotal> out;
  const auto add = [&](const char* operation, const char* what, int64_t elements) {
    if (elements == 0) return;
    auto it = std::find_if(out.begin(), out.end(), [&](const CollectiveTotal& t) { return t.operation == operation && t.what == what; });
    if (it == out.end()) it = out.insert(out.end(), {operation, what, 0, 0});
    ++it->calls;
    it->elements += elements;
  };
  const bool whole_sums = all_reduces_gradients(options);
  const char* gather = options.allgather_partitions ? "all-gather" : "broadcast";
  add("all-reduce", "scalars of a cosine", elements_beside_actions(config, kind, options.world));
  for (const Action* action : actions_of(training, kind)) {
    const Action& a = *action;
    switch (a.kind) {
      case ActionKind::Gather:
        add("all-gather", "parameters", a.elements_gathered);
        break;
      case ActionKind::GatherGradient:
        add("all-gather", "gradients of instructed directions", a.elements_gathered);
        break;
      case ActionKind::GatherUpdated:
        add(gather, "updated parameters", a.elements_gathered);
        break;
      case ActionKind::UpdateMatrices:
        add("exchange", "whole matrices", a.elements_gathered);
        break;
      case ActionKind::Reduce:
        add(whole_sums && a.elements_gathered == 0 ? "all-reduce" : "reduce-scatter", "gradients", a.elements_reduced);
        add("all-gather", "summed gradients", a.elements_gathered);
        break;
      case ActionKind::Scalars:
        add("all-reduce", "scalars", a.elements_reduced);
        break;
      case ActionKind::Visit:
      case ActionKind::Release:
      case ActionKind::Update:
        break;
    }
  }
  return out;
}

std::vector<BufferTotal> buffers_of(const Plan& plan) {
  std::vector<BufferTotal> out;
  for (const PlannedBuffer& b : plan.buffers) {
    const std::string kind = kind_of(b.name);
    auto it = std::find_if(out.begin(), out.end(), [&](const BufferTotal& t) { return t.kind == kind; });
    if (it == out.end()) it = out.insert(out.end(), {kind, 0, 0});
    ++it->count;
    it->bytes += b.bytes;
  }
  return out;
}

std::string plan_actions_text(const TrainingPlan& plan) {
  std::string out;
  const auto add = [&](const char* title, const Plan& step) {
    out += title;
    for (size_t i = 0; i < step.actions.size(); ++i) out += fmt::format("{:>6}  {}\n", i, action_text(plan, step, step.actions[i]));
  };
  add(plan.backprop ? "a step of queries\n" : "", plan.train);
  if (plan.backprop) add("a step of backprop\n", *plan.backprop);
  if (plan.instructed) add("queries instructed by the gradient of a step of backprop\n", *plan.instructed);
  return out;
}

}  // namespace zerostep
