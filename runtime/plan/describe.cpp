#include <fmt/format.h>

#include "runtime/plan/plan.h"

namespace zerostep {
namespace {

struct LaneName {
  const char *lane, *stream;
};
constexpr LaneName kLaneNames[] = {{"compute", "computation"},    {"gather", "communication"},    {"reduce", "communication"},
                                   {"read", "file read"},         {"write", "file write"},        {"host", "host computation"},
                                   {"to host", "device to host"}, {"to device", "host to device"}};
static_assert(std::size(kLaneNames) == kLanes);

std::string visit_text(const ModelLayout& layout, const Visit& v) {
  const std::string& unit = layout.unit(v.unit).name;
  if (v.kind != VisitKind::ForwardOnly || v.branches * v.micro_batches == 1)
    return fmt::format("{} {} (micro-batch {})", name_of(v.kind), unit, v.micro_batch);
  return fmt::format("{} {} (pass {}: {} branch{} of {} micro-batch{})", name_of(v.kind), unit, v.pass, v.branches,
                     v.branches == 1 ? "" : "es", v.micro_batches, v.micro_batches == 1 ? "" : "es");
}

}  // namespace

const char* name_of(VisitKind kind) {
  static constexpr const char* kNames[] = {"forward", "forward (no graph)", "recompute", "backward"};
  static_assert(std::size(kNames) == static_cast<size_t>(VisitKind::Backward) + 1);
  return nth(kNames, kind);
}

const char* name_of(ActionKind kind) {
  static constexpr const char* kNames[] = {"begin",
                                           "gather",
                                           "bring",
                                           "return",
                                           "gather gradient",
                                           "visit",
                                           "release",
                                           "reduce",
                                           "agree",
                                           "gather matrices",
                                           "make matrix updates",
                                           "scatter matrix updates",
                                           "apply matrix updates",
                                           "update",
                                           "gather updated",
                                           "load",
                                           "store",
                                           "drop",
                                           "end"};
  static_assert(std::size(kNames) == static_cast<size_t>(ActionKind::End) + 1);
  return nth(kNames, kind);
}

const char* name_of(Agreement agreement) {
  static constexpr const char* kNames[] = {"loss and gradient", "instructed directions", "losses of the queries", "the estimate"};
  static_assert(std::size(kNames) == static_cast<size_t>(Agreement::Estimate) + 1);
  return nth(kNames, agreement);
}

const char* name_of(BufferKind kind) {
  static constexpr const char* kNames[] = {"parameters",
                                           "slot of parameters",
                                           "gradients",
                                           "slot of gradients",
                                           "squared norm",
                                           "update state",
                                           "optimizer state of whole matrices",
                                           "whole matrices of a round",
                                           "copies of weights",
                                           "kept input",
                                           "16-bit message",
                                           "scalars",
                                           "communicator",
                                           "staging slot",
                                           "checkpoint",
                                           "slot of checkpoints",
                                           "values of other ranks",
                                           "operands of the host's updates"};
  static_assert(std::size(kNames) == static_cast<size_t>(BufferKind::HostOperands) + 1);
  return nth(kNames, kind);
}

const char* name_of(Lane lane) { return nth(kLaneNames, lane).lane; }

const char* stream_name(Lane lane) { return nth(kLaneNames, lane).stream; }

std::string trace_name(const ModelLayout& layout, const Plan& plan, const Action& a) {
  switch (a.kind) {
    case ActionKind::Visit: {
      const Visit& visit = plan.visit(a.visit);
      return fmt::format("{} {}", name_of(visit.kind), layout.unit(visit.unit).name);
    }
    case ActionKind::Gather:
    case ActionKind::BringShard:
    case ActionKind::ReturnShard:
    case ActionKind::GatherGradient:
    case ActionKind::Update:
      return fmt::format("{} {}", name_of(a.kind), layout.group(a.group).name);
    case ActionKind::Reduce:
    case ActionKind::GatherUpdated:  // groups that travel together go by the first
      return fmt::format("{} {}", name_of(a.kind), layout.group(a.parts.front().group).name);
    case ActionKind::GatherMatrices:
      return "gradients of matrices";
    case ActionKind::ScatterMatrixUpdates:
      return "updates of matrices";
    default:
      return describe(layout, plan, a);
  }
}

std::string describe(const ModelLayout& layout, const Plan& plan, const Action& a) {
  const auto group = [&](int id) { return layout.group(id).name; };
  const auto parts = [&] {
    std::string names;
    for (const CollectivePart& p : a.parts) {
      names += (names.empty() ? "" : ", ") + group(p.group);
      const size_t slices = layout.group(p.group).layout.slices().size();
      if (slices > 1) names += fmt::format("[{}..{} of {}]", p.slice_begin, p.slice_end - 1, slices);
    }
    return names;
  };
  const bool is_of_unit = a.chunk.kind == BufferKind::Checkpoint || a.chunk.kind == BufferKind::Activation;
  std::string text = name_of(a.kind);
  switch (a.kind) {
    case ActionKind::Gather:
      text += fmt::format(" {} -> slot {}{}", group(a.group), a.slot, a.has_shard ? ", this rank's part of it there" : "");
      break;
    case ActionKind::BringShard:
      text += fmt::format(" shard of {} -> slot {}", group(a.group), a.slot);
      break;
    case ActionKind::ReturnShard:
      text += fmt::format(" shard of {} <- slot {}", group(a.group), a.slot);
      break;
    case ActionKind::Release:
    case ActionKind::GatherGradient:
      text += " " + group(a.group);
      break;
    case ActionKind::Visit:
      text = visit_text(layout, plan.visit(a.visit));
      break;
    case ActionKind::Reduce:
    case ActionKind::GatherUpdated:
      text += " " + parts() + (a.accumulate ? " (accumulating)" : "");
      break;
    case ActionKind::GatherMatrices:
    case ActionKind::MakeMatrixUpdates:
    case ActionKind::ScatterMatrixUpdates:
    case ActionKind::ApplyMatrixUpdates:
      text += fmt::format(" of round {}{}, {} of them", a.round, a.wave < 0 ? "" : fmt::format(" wave {}", a.wave),
                          plan.matrices.parameters_in(a.round, a.wave).size());
      break;
    case ActionKind::Update:
      text += fmt::format(" {} [{}, {}){}", group(a.group), a.begin, a.end, a.slot < 0 ? "" : fmt::format(" in slot {}", a.slot));
      break;
    case ActionKind::Agree:
      text += fmt::format(" on {}", name_of(a.agreement));
      break;
    case ActionKind::Load:
    case ActionKind::Store:
    case ActionKind::Drop:
      text += fmt::format(" {} of {}", name_of(a.chunk.kind), is_of_unit ? layout.unit(a.chunk.index).name : group(a.chunk.index));
      if (a.chunk.kind == BufferKind::UpdateState) text += fmt::format(", chunk {}", a.chunk.chunk);
      break;
    case ActionKind::Begin:
    case ActionKind::End:
      break;
  }
  return text;
}

}  // namespace zerostep
