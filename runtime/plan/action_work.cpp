#include <algorithm>
#include <limits>
#include <map>

#include "base/nth.h"
#include "runtime/plan/cost.h"

// How much each action of a plan moves, touches and works out.

namespace zerostep {
namespace {

// Of a round's matrices, `work(matrix)` summed over those of the owner with most: the others wait for it.
template <typename Work>
double most_of_an_owner(const MatrixAssignment& matrices, int round, const Work& work) {
  std::map<int, double> owner_totals;
  double most = 0;
  for (const int index : matrices.parameters_in(round)) {
    const AssignedParameter& p = nth(matrices.parameters, index);
    most = std::max(most, owner_totals[p.owner] += static_cast<double>(work(p)));
  }
  return most;
}

// A step of `elements` along something: `values` fp32 numbers an element of it and of state, masters and parameters.
int64_t updated_bytes(const FlatGroup& group, const PlanOptions& o, int64_t elements, int64_t values) {
  const bool masters = has_masters(group, o);
  return num_bytes(elements * (values + (masters ? 2 : 0)), DType::F32) + num_bytes(elements * (masters ? 1 : 2), group.type);
}

int64_t applied_bytes(const ModelLayout& layout, const Plan& plan, const Action& a) {
  int64_t bytes = 0;
  for (const int index : plan.matrices.parameters_in(a.round, a.wave)) {
    const AssignedParameter& p = nth(plan.matrices.parameters, index);
    bytes += updated_bytes(layout.group(p.group), plan.options, p.held, 1);
  }
  return bytes;
}

int64_t visited_bytes(const ModelLayout& layout, const Plan& plan, const Action& a) {
  const Visit& visit = plan.visit(a.visit);
  const int64_t reads = forwards_of(visit);
  const int64_t copied = visit.copied_branches, directions = copied > 0 ? copied / visit.weight_copies : 0;
  const int64_t plain = std::max<int64_t>(1, copied > 0 ? visit.branches - copied : 0);
  int64_t bytes = 0;
  for (const GroupSlot& p : a.parameters) {
    const FlatGroup& g = layout.group(p.group);
    const int64_t at_rest = num_bytes(g.full_elements(), g.type), computed = num_bytes(g.full_elements(), g.compute_type);
    bytes += reads * computed;
    if (g.type != g.compute_type) bytes += plain * (at_rest + computed);
    if (g.trainable) bytes += directions * at_rest + copied * computed;
  }
  const auto gradient = [&](int g) { return num_bytes(layout.group(g).full_elements(), DType::F32); };
  for (const GroupSlot& g : a.summed_gradients) bytes += directions * gradient(g.group);
  for (const GradientUse& use : a.gradients) bytes += (use.fresh ? 1 : 2) * gradient(use.group);
  return bytes;
}

int64_t bytes_of(const ModelLayout& layout, const Plan& plan, const Action& a) {
  const PlanOptions& o = plan.options;
  switch (a.kind) {
    case ActionKind::Load:
    case ActionKind::Store:
      for (const PlannedBuffer& b : plan.buffers)
        if (b.id.kind == a.chunk.kind && b.id.index == a.chunk.index)
          return std::min(b.chunk_bytes, b.bytes - a.chunk.chunk * b.chunk_bytes);  // the last chunk may be shorter
      return 0;
    case ActionKind::Gather:
      return num_bytes(a.elements_gathered, layout.group(a.group).type);
    case ActionKind::GatherUpdated:
      return num_bytes(a.elements_gathered, layout.group(a.parts.front().group).type);
    case ActionKind::BringShard:
    case ActionKind::ReturnShard:
      return num_bytes(layout.group(a.group).shard_elements(), layout.group(a.group).type);
    case ActionKind::GatherGradient:
    case ActionKind::GatherMatrices:
    case ActionKind::ScatterMatrixUpdates:
      return num_bytes(a.elements_gathered, DType::F32);
    case ActionKind::Reduce:  // what is gathered are sums of 16-bit messages
      return num_bytes(a.elements_reduced, o.communication_type) + num_bytes(a.elements_gathered, DType::F32);
    case ActionKind::Agree:
      return a.elements_reduced * static_cast<int64_t>(sizeof(double));
    case ActionKind::MakeMatrixUpdates: {  // the gradient, its moments, the update
      const int64_t values = (a.reads_gradient ? 1 : 0) + 2 * o.matrix_state_values / o.state_sets + 1;
      const double elements = most_of_an_owner(plan.matrices, a.round, [](const AssignedParameter& p) { return p.num_elements(); });
      return num_bytes(static_cast<int64_t>(elements) * values, DType::F32);
    }
    case ActionKind::Visit:
      return visited_bytes(layout, plan, a);
    case ActionKind::ApplyMatrixUpdates:
      return applied_bytes(layout, plan, a);
    case ActionKind::Update:
      return updated_bytes(layout.group(a.group), o, a.end - a.begin,
                           2 * o.optimizer_state_values / o.state_sets + (a.reads_gradient ? 1 : 0));
    default:
      return 0;
  }
}

}  // namespace

int64_t forwards_of(const Visit& visit) {
  if (visit.kind == VisitKind::Backward) return 1;
  return int64_t{visit.branches + visit.branches_together - 1} / visit.branches_together * visit.micro_batches;
}

void count_work(const ModelLayout& layout, const ModelDefinition& model, const StepLoads& loads, Plan& plan) {
  // A backward works out gradients of its weights and of its input; nothing asks for the latter in the last one.
  int last_backward = std::numeric_limits<int>::max();
  for (const Visit& visit : plan.visits)
    if (visit.kind == VisitKind::Backward) last_backward = std::min(last_backward, visit.unit);
  std::map<std::pair<const StepLoads::Load*, int>, double> known;  // of a forward
  const auto visit_flops = [&](const Visit& visit) {
    const StepLoads::Load& load = loads.load_of(visit);
    const auto [forward, is_new] = known.try_emplace({&load, visit.unit}, 0.0);
    if (is_new) forward->second = model.activation_cost(visit.unit, {load.batch, load.sequence, layout.options.compute_type}).forward_flops;
    const double work = forward->second * (visit.kind == VisitKind::Backward && visit.unit != last_backward ? 2 : 1);
    const bool makes_loss_in_parts = load.takes_factors && visit.kind == VisitKind::Backward && visit.unit + 1 == std::ssize(layout.units);
    const double repeated =
        makes_loss_in_parts ? objective_cost(load, model, layout.options.compute_type, loads.backend).repeated_flops : 0;
    return visit.branches * visit.micro_batches * (work + repeated);
  };
  plan.flops = 0;
  plan.file_bytes_read = plan.file_bytes_written = 0;
  for (Action& a : plan.actions) {
    a.bytes = bytes_of(layout, plan, a);
    if (a.kind == ActionKind::MakeMatrixUpdates) a.flops = most_of_an_owner(plan.matrices, a.round, update_flops);
    if (a.kind == ActionKind::Visit) plan.flops += a.flops = visit_flops(plan.visit(a.visit));
    if (a.chunk.kind == BufferKind::Checkpoint) continue;
    if (a.kind == ActionKind::Load) plan.file_bytes_read += a.bytes;
    if (a.kind == ActionKind::Store) plan.file_bytes_written += a.bytes;
  }
}

}  // namespace zerostep
