#include <algorithm>
#include <limits>
#include <map>

#include "base/nth.h"
#include "runtime/plan/cost.h"

// How much each action of a plan moves, touches and works out.

namespace zerostep {
namespace {

// Of the rank with most: the others wait for it.
double round_flops(const MatrixAssignment& matrices, int round) {
  std::map<int, double> by_owner;
  double most = 0;
  for (const int index : nth(matrices.rounds, round).parameters) {
    const AssignedParameter& p = nth(matrices.parameters, index);
    most = std::max(most, by_owner[p.owner] += update_flops(p));
  }
  return most;
}

int64_t updated_bytes(const FlatGroup& group, const PlanOptions& o, const Action& a) {
  const int64_t elements = a.end - a.begin;
  const bool masters = has_masters(group, o);
  const int64_t values = 2 * o.optimizer_state_values / o.state_sets + (a.reads_gradient ? 1 : 0) + (masters ? 2 : 0);
  return num_bytes(elements * values, DType::F32) + num_bytes(elements * (masters ? 1 : 2), group.type);
}

int64_t bytes_of(const ModelLayout& layout, const PlanOptions& o, const Action& a) {
  switch (a.kind) {
    case ActionKind::Gather:
      return num_bytes(a.elements_gathered, layout.group(a.group).type);
    case ActionKind::GatherUpdated:
      return num_bytes(a.elements_gathered, layout.group(a.parts.front().group).type);
    case ActionKind::GatherGradient:
    case ActionKind::UpdateMatrices:
      return num_bytes(a.elements_gathered, DType::F32);
    case ActionKind::Reduce:  // what is gathered are sums of 16-bit messages
      return num_bytes(a.elements_reduced, o.communication_type) + num_bytes(a.elements_gathered, DType::F32);
    case ActionKind::Agree:
      return a.elements_reduced * static_cast<int64_t>(sizeof(double));
    case ActionKind::Update:
      return updated_bytes(layout.group(a.group), o, a);
    default:
      return 0;
  }
}

}  // namespace

void count_work(const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads, Plan& plan) {
  // A backward works out gradients of its weights and of its input; nothing asks for the latter in the last one.
  int last_backward = std::numeric_limits<int>::max();
  for (const Visit& visit : plan.visits)
    if (visit.kind == VisitKind::Backward) last_backward = std::min(last_backward, visit.unit);
  std::map<std::pair<const StepLoads::Load*, int>, double> known;  // of a forward
  const auto visit_flops = [&](const Visit& visit) {
    const StepLoads::Load& load = loads.of(visit);
    const auto [forward, is_new] = known.try_emplace({&load, visit.unit}, 0.0);
    if (is_new)
      forward->second = model.activation_cost(visit.unit, load.batch, load.sequence, layout.options.compute_type, false).forward_flops;
    return visit.branches * visit.micro_batches * forward->second *
           (visit.kind == VisitKind::Backward && visit.unit != last_backward ? 2 : 1);
  };
  plan.flops = 0;
  for (Action& a : plan.actions) {
    a.bytes = bytes_of(layout, plan.options, a);
    if (a.kind == ActionKind::UpdateMatrices) a.flops = round_flops(plan.matrices, a.round);
    if (a.kind == ActionKind::Visit) plan.flops += a.flops = visit_flops(plan.visit(a.visit));
  }
}

}  // namespace zerostep
