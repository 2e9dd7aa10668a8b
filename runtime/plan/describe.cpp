#include <fmt/format.h>

#include "base/nth.h"
#include "runtime/plan/plan.h"

namespace zerostep {
namespace {

std::string visit_text(const ModelLayout& layout, const Visit& v) {
  const std::string& unit = layout.unit(v.unit).name;
  if (v.kind != VisitKind::ForwardOnly || v.branches * v.micro_batches == 1)
    return fmt::format("{} {} (micro-batch {})", name_of(v.kind), unit, v.micro_batch);
  return fmt::format("{} {} (pass {}: {} branch{} of {} micro-batch{})", name_of(v.kind), unit, v.pass, v.branches,
                     v.branches == 1 ? "" : "es", v.micro_batches, v.micro_batches == 1 ? "" : "es");
}

}  // namespace

const char* name_of(VisitKind kind) {
  switch (kind) {
    case VisitKind::Forward:
      return "forward";
    case VisitKind::ForwardOnly:
      return "forward (no graph)";
    case VisitKind::Recompute:
      return "recompute";
    case VisitKind::Backward:
      return "backward";
  }
  return "?";
}

const char* name_of(ActionKind kind) {
  switch (kind) {
    case ActionKind::Begin:
      return "begin";
    case ActionKind::Gather:
      return "gather";
    case ActionKind::GatherGradient:
      return "gather gradient";
    case ActionKind::Visit:
      return "visit";
    case ActionKind::Release:
      return "release";
    case ActionKind::Reduce:
      return "reduce";
    case ActionKind::Agree:
      return "agree";
    case ActionKind::GatherMatrices:
      return "gather matrices";
    case ActionKind::MakeMatrixUpdates:
      return "make matrix updates";
    case ActionKind::ScatterMatrixUpdates:
      return "scatter matrix updates";
    case ActionKind::ApplyMatrixUpdates:
      return "apply matrix updates";
    case ActionKind::Update:
      return "update";
    case ActionKind::GatherUpdated:
      return "gather updated";
    case ActionKind::End:
      return "end";
  }
  return "?";
}

const char* name_of(Agreement agreement) {
  switch (agreement) {
    case Agreement::Gradient:
      return "loss and gradient";
    case Agreement::Instruction:
      return "instructed directions";
    case Agreement::Losses:
      return "losses of the queries";
    case Agreement::Estimate:
      return "the estimate";
  }
  return "?";
}

const char* name_of(BufferKind kind) {
  switch (kind) {
    case BufferKind::Parameters:
      return "parameters";
    case BufferKind::ParameterSlot:
      return "slot of parameters";
    case BufferKind::Gradients:
      return "gradients";
    case BufferKind::GradientSlot:
      return "slot of gradients";
    case BufferKind::SquaredNorm:
      return "squared norm";
    case BufferKind::UpdateState:
      return "update state";
    case BufferKind::MatrixState:
      return "optimizer state of whole matrices";
    case BufferKind::WholeMatrices:
      return "whole matrices of a round";
    case BufferKind::WeightCopies:
      return "copies of weights";
    case BufferKind::Activation:
      return "kept input";
    case BufferKind::Message:
      return "16-bit message";
    case BufferKind::Scalars:
      return "scalars";
    case BufferKind::Communicator:
      return "communicator";
  }
  return "?";
}

const char* name_of(Lane lane) {
  switch (lane) {
    case Lane::Compute:
      return "compute";
    case Lane::Gather:
      return "gather";
    case Lane::Reduce:
      return "reduce";
  }
  return "?";
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
      text += fmt::format(" {} [{}, {})", group(a.group), a.begin, a.end);
      break;
    case ActionKind::Agree:
      text += fmt::format(" on {}", name_of(a.agreement));
      break;
    case ActionKind::Begin:
    case ActionKind::End:
      break;
  }
  return text;
}

}  // namespace zerostep
