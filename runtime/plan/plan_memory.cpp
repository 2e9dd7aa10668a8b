#include <algorithm>

#include "base/error.h"
#include "runtime/plan/plan.h"

namespace zerostep {

bool keeps_parameters_whole(const FlatGroup& group, const PlanOptions& options) {
  return options.stage < 3 || group.persistent || (group.layout.ranks() == 1 && options.parameter_tier == Tier::Device);
}
bool keeps_gradients_whole(const PlanOptions& options) { return options.stage <= 1 || options.world == 1; }
bool updates_whole(const PlanOptions& options) { return options.stage == 0 || options.world == 1; }

int64_t elements_of_part(const ModelLayout& layout, const CollectivePart& part) {
  int64_t n = 0;
  for (int s = part.slice_begin; s < part.slice_end; ++s)
    n += layout.group(part.group).layout.slice(s).per_rank * layout.options.shard_ranks;
  return n;
}

int64_t message_bytes(const ModelLayout& layout, const Plan& plan) {
  int64_t most = 0;
  if (is_16bit(plan.options.communication_type))
    for (const Action& a : plan.actions)
      if (a.kind == ActionKind::Reduce) {
        int64_t elements = 0;
        for (const CollectivePart& part : a.parts) elements += round_up(elements_of_part(layout, part), kAlignmentBytes / 2);
        most = std::max(most, num_bytes(elements, plan.options.communication_type));
      }
  return most;
}

void list_buffers(const ModelLayout& layout, Plan& plan) {
  const PlanOptions& o = plan.options;
  plan.buffers.clear();
  const auto add = [&](const std::string& name, int64_t bytes, bool communicated) {
    if (bytes > 0) plan.buffers.push_back({name, round_up(bytes, kAlignmentBytes), communicated && layout.options.shard_ranks > 1});
  };
  for (const FlatGroup& g : layout.groups) {
    const int64_t part = updates_whole(o) ? g.full_elements() : g.shard_elements();
    add("parameters " + g.name, num_bytes(keeps_parameters_whole(g, o) ? g.full_elements() : g.shard_elements(), g.type), true);
    if (!g.trainable || !o.update) continue;
    if (has_masters(g, o)) add("masters " + g.name, num_bytes(part, DType::F32), false);
    if (plan.has_backward)
      add("gradients " + g.name, num_bytes(keeps_gradients_whole(o) ? g.full_elements() : g.shard_elements(), DType::F32),
          keeps_gradients_whole(o) || g.assigned);
    if (!g.assigned) add("optimizer state " + g.name, o.optimizer_state_values * num_bytes(part, DType::F32), false);
  }
  for (const RingPlan& ring : plan.parameter_rings)
    add("slots of " + ring.name, ring.num_slots * round_up(ring.slot_bytes, kAlignmentBytes), false);
  for (const RingPlan& ring : plan.gradient_rings)
    add("slots of " + ring.name, ring.num_slots * round_up(ring.slot_bytes, kAlignmentBytes), true);
  add("16-bit message", plan.message_bytes, true);
  add("copies of weights", plan.copies_bytes, false);
  add("optimizer state of whole matrices", o.matrix_state_values * num_bytes(plan.matrices.state_elements, DType::F32), false);
  add("whole matrices of a round", num_bytes(plan.matrices.work_elements, DType::F32), true);
  add("updates of matrices", num_bytes(plan.matrices.result_elements, DType::F32), false);
  add("Newton-Schulz iterations", num_bytes(plan.matrices.scratch_elements, DType::F32), false);
  plan.device_arena_bytes = 0;
  for (const PlannedBuffer& b : plan.buffers) plan.device_arena_bytes += b.bytes;
}

bool has_masters(const FlatGroup& group, const PlanOptions& options) { return is_16bit(group.type) && options.masters; }

int64_t copy_bytes(const ModelLayout& layout, int unit, std::vector<int64_t>* offsets) {
  int64_t bytes = 0;
  for (int g : layout.used_by(unit)) {
    const FlatGroup& group = layout.group(g);
    if (offsets != nullptr) offsets->push_back(bytes);
    if (group.trainable) bytes += round_up(num_bytes(group.full_elements(), group.compute_type), kAlignmentBytes);
  }
  return bytes;
}

void share_memory(const ModelLayout& layout, const std::vector<Plan*>& plans) {
  Plan all = *plans.front();
  // Rings of one kind are the same classes of groups wherever a plan has them.
  const auto join = [](std::vector<RingPlan>& rings, std::vector<int>& ring_of, const std::vector<RingPlan>& more,
                       const std::vector<int>& more_of) {
    if (rings.empty()) {
      rings = more;
      ring_of = more_of;
      return;
    }
    if (more.empty()) return;
    if (ring_of != more_of) fail_protocol("[plan] two plans of one engine have other rings");
    for (size_t r = 0; r < rings.size(); ++r) rings[r].num_slots = std::max(rings[r].num_slots, more[r].num_slots);
  };
  for (const Plan* plan : plans) {
    join(all.parameter_rings, all.parameter_ring_of, plan->parameter_rings, plan->parameter_ring_of);
    join(all.gradient_rings, all.gradient_ring_of, plan->gradient_rings, plan->gradient_ring_of);
    all.has_backward |= plan->has_backward;
    all.copies_bytes = std::max(all.copies_bytes, plan->copies_bytes);
    all.message_bytes = std::max(all.message_bytes, plan->message_bytes);
  }
  list_buffers(layout, all);
  for (Plan* plan : plans) {
    plan->parameter_rings = all.parameter_rings;
    plan->parameter_ring_of = all.parameter_ring_of;
    plan->gradient_rings = all.gradient_rings;
    plan->gradient_ring_of = all.gradient_ring_of;
    plan->has_backward = all.has_backward;
    plan->copies_bytes = all.copies_bytes;
    plan->message_bytes = all.message_bytes;
    plan->buffers = all.buffers;
    plan->device_arena_bytes = all.device_arena_bytes;
  }
}

}  // namespace zerostep
