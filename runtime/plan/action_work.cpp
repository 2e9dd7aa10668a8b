#include <algorithm>
#include <limits>
#include <map>

#include "base/nth.h"
#include "runtime/plan/cost.h"

// How much each action of a plan moves, touches and works out.

namespace zerostep {
namespace {

class Work {
 public:
  Work(const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads, const Plan& plan)
      : layout_(layout), model_(model), loads_(loads), plan_(plan) {
    for (const Visit& visit : plan.visits)
      if (visit.kind == VisitKind::Backward) last_backward_ = std::min(last_backward_, visit.unit);
  }

  void fill(Action& a) {
    switch (a.kind) {
      case ActionKind::Begin:
      case ActionKind::Release:
      case ActionKind::End:
        break;
      case ActionKind::Gather:
        a.bytes = num_bytes(a.elements_gathered, layout_.group(a.group).type);
        break;
      case ActionKind::GatherUpdated:
        a.bytes = num_bytes(a.elements_gathered, layout_.group(a.parts.front().group).type);
        break;
      case ActionKind::GatherGradient:
        a.bytes = num_bytes(a.elements_gathered, DType::F32);
        break;
      case ActionKind::Reduce:  // what is gathered are sums of 16-bit messages
        a.bytes = num_bytes(a.elements_reduced, plan_.options.communication_type) + num_bytes(a.elements_gathered, DType::F32);
        break;
      case ActionKind::Agree:
        a.bytes = a.elements_reduced * static_cast<int64_t>(sizeof(double));
        break;
      case ActionKind::Visit:
        a.flops = visit_flops(plan_.visit(a.visit));
        break;
      case ActionKind::UpdateMatrices:
        a.bytes = num_bytes(a.elements_gathered, DType::F32);
        a.flops = round_flops(nth(plan_.matrices.rounds, a.round));
        break;
      case ActionKind::Update:
        a.bytes = updated_bytes(layout_.group(a.group), a.end - a.begin);
        break;
    }
  }

 private:
  // A backward works out gradients of its weights and of its input; nothing asks for the latter in the last one.
  double visit_flops(const Visit& visit) {
    const double forward = visit.branches * visit.micro_batches * forward_flops(visit);
    return visit.kind != VisitKind::Backward ? forward : visit.unit == last_backward_ ? forward : 2 * forward;
  }

  double forward_flops(const Visit& visit) {
    const StepLoads::Load& load = loads_.of(visit);
    const auto [known, is_new] = forward_flops_.try_emplace({&load, visit.unit}, 0.0);
    if (is_new)
      known->second = model_.activation_cost(visit.unit, load.batch, load.sequence, layout_.options.compute_type, false).forward_flops;
    return known->second;
  }

  // Of the rank with most: the others wait for it.
  double round_flops(const MatrixAssignment::Round& round) const {
    std::map<int, double> by_owner;
    double most = 0;
    for (const int index : round.parameters) {
      const AssignedParameter& p = nth(plan_.matrices.parameters, index);
      most = std::max(most, by_owner[p.owner] += update_flops(p));
    }
    return most;
  }

  int64_t updated_bytes(const FlatGroup& group, int64_t elements) const {
    const PlanOptions& o = plan_.options;
    const bool masters = has_masters(group, o);
    const int64_t values = 2 * o.optimizer_state_values / o.state_sets + (o.gradient_in_update ? 1 : 0) + (masters ? 2 : 0);
    return num_bytes(elements * values, DType::F32) + num_bytes(elements * (masters ? 1 : 2), group.type);
  }

  const ModelLayout& layout_;
  const ModelDefinition& model_;
  const StepLoads& loads_;
  const Plan& plan_;
  int last_backward_ = std::numeric_limits<int>::max();  // the first unit that has one
  std::map<std::pair<const StepLoads::Load*, int>, double> forward_flops_;
};

}  // namespace

void count_work(const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads, Plan& plan) {
  Work work(layout, model, loads, plan);
  plan.flops = 0;
  for (Action& a : plan.actions) {
    work.fill(a);
    if (a.kind == ActionKind::Visit) plan.flops += a.flops;
  }
}

}  // namespace zerostep
