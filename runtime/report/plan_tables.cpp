#include "runtime/report/plan_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/format.h"
#include "runtime/report/plan_report.h"

namespace zerostep {
namespace {

// Buffers are named after their kind and the group they belong to.
std::string kind_of(const std::string& name) {
  constexpr std::array kKinds{"parameters",          "masters and optimizer state", "masters",   "gradients", "optimizer state",
                              "slots of parameters", "slots of gradients",          "checkpoint"};
  for (const char* kind : kKinds)
    if (name.starts_with(kind)) return kind;
  return name;
}

std::string action_text(const TrainingPlan& training, const Plan& plan, const Action& a) {
  std::string text = fmt::format("{:<8} {}", name_of(a.lane), describe(training.layout, plan, a));
  if (a.elements_gathered > 0) text += fmt::format("; gathers {}", grouped(a.elements_gathered));
  if (a.elements_reduced > 0) text += fmt::format("; reduces {}", grouped(a.elements_reduced));
  if (a.bytes > 0) text += fmt::format("; {} bytes", grouped(a.bytes));
  if (a.flops > 0) text += fmt::format("; {} operations", human_count(a.flops));
  if (!a.waits.empty()) text += fmt::format("; waits for {}", fmt::join(a.waits, ", "));
  return text;
}

}  // namespace

std::vector<CollectiveTotal> collectives_of(const Plan& plan) {
  const PlanOptions& options = plan.options;
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
  for (const Action& a : plan.actions) {
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
      case ActionKind::GatherMatrices:
      case ActionKind::ScatterMatrixUpdates:
        add("exchange", "whole matrices", a.elements_gathered);
        break;
      case ActionKind::Reduce:
        add(whole_sums && a.elements_gathered == 0 ? "all-reduce" : "reduce-scatter", "gradients", a.elements_reduced);
        add("all-gather", "summed gradients", a.elements_gathered);
        break;
      case ActionKind::Agree:
        add("all-reduce", "scalars", a.elements_reduced);
        break;
      default:  // nothing moves
        break;
    }
  }
  return out;
}

std::vector<BufferTotal> buffers_of(const Plan& plan, int64_t staging_bytes) {
  std::vector<BufferTotal> out;
  for (const PlannedBuffer& b : plan.buffers) {
    const std::string kind = kind_of(b.name);
    auto it = std::find_if(out.begin(), out.end(), [&](const BufferTotal& t) { return t.kind == kind && t.tier == b.tier; });
    if (it == out.end()) it = out.insert(out.end(), {kind, b.tier, 0, 0});
    ++it->count;
    it->bytes += b.bytes;
  }
  if (staging_bytes > 0) out.push_back({"state staged for checkpoints", Tier::Host, 1, staging_bytes});
  return out;
}

int64_t bytes_in(const Plan& plan, Tier tier, std::initializer_list<BufferKind> kinds) {
  int64_t bytes = 0;
  for (const PlannedBuffer& b : plan.buffers)
    if (b.tier == tier && std::find(kinds.begin(), kinds.end(), b.id.kind) != kinds.end()) bytes += b.bytes;
  return bytes;
}

std::string rests_text(const Plan& plan) {
  std::string out;
  bool is_elsewhere = false;
  const auto add = [&](const char* what, std::initializer_list<BufferKind> kinds) {
    std::string places;
    for (const Tier tier : {Tier::Device, Tier::Host, Tier::File}) {
      const int64_t bytes = bytes_in(plan, tier, kinds);
      if (bytes == 0) continue;
      places += fmt::format("{}{} {}", places.empty() ? "" : ", ", name_of(tier), human_bytes(bytes));
      is_elsewhere |= tier != Tier::Device;
    }
    if (!places.empty()) out += fmt::format("{}{}: {}", out.empty() ? "" : "; ", what, places);
  };
  add("parameters", {BufferKind::Parameters});
  add("gradients", {BufferKind::Gradients});
  add("optimizer state", {BufferKind::UpdateState, BufferKind::MatrixState});
  return is_elsewhere ? out : "";
}

std::string plan_actions_text(const TrainingPlan& plan) {
  std::string out;
  for (const TrainingPlan::Step& step : plan.steps) {
    if (plan.steps.size() > 1) out += fmt::format("a step of {}\n", name_of(step.kind));
    for (size_t i = 0; i < step.plan.actions.size(); ++i)
      out += fmt::format("{:>6}  {}\n", i, action_text(plan, step.plan, step.plan.actions[i]));
  }
  return out;
}

}  // namespace zerostep
