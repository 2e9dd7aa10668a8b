#include <algorithm>

#include "base/error.h"
#include "runtime/plan/state_chunks.h"

namespace zerostep {

bool keeps_parameters_whole(const FlatGroup& group, const PlanOptions& options) {
  return options.stage < 3 || group.persistent || group.layout.ranks() == 1;
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
  const auto add_chunks = [&](Buffer id, const std::string& name, int64_t bytes, int num_chunks, int64_t chunk_bytes, bool communicated) {
    const int64_t rounded = round_up(bytes, kAlignmentBytes);
    if (bytes > 0) plan.buffers.push_back({id, name, rounded, num_chunks, chunk_bytes, communicated && layout.options.shard_ranks > 1});
  };
  const auto add = [&](Buffer id, const std::string& name, int64_t bytes, bool communicated) {
    add_chunks(id, name, bytes, 1, round_up(bytes, kAlignmentBytes), communicated);
  };
  for (const FlatGroup& g : layout.groups) {
    add({BufferKind::Parameters, g.id}, "parameters " + g.name,
        num_bytes(keeps_parameters_whole(g, o) ? g.full_elements() : g.shard_elements(), g.type), true);
    if (!g.trainable || !o.update) continue;
    if (plan.has_backward)
      add({BufferKind::Gradients, g.id}, "gradients " + g.name,
          num_bytes(keeps_gradients_whole(o) ? g.full_elements() : g.shard_elements(), DType::F32), keeps_gradients_whole(o) || g.assigned);
    const StateChunks chunks = state_chunks(g, plan);
    if (chunks.count == 0) continue;
    const char* what = !chunks.has_masters ? "optimizer state " : chunks.arrays > 1 ? "masters and optimizer state " : "masters ";
    add_chunks({BufferKind::UpdateState, g.id}, what + g.name, chunks.bytes(), chunks.count, chunks.chunk_bytes(), false);
  }
  const auto add_rings = [&](BufferKind kind, const std::vector<RingPlan>& rings, bool communicated) {
    for (size_t r = 0; r < rings.size(); ++r) {
      const int64_t slot = round_up(rings[r].slot_bytes, kAlignmentBytes);
      add_chunks({kind, static_cast<int>(r)}, "slots of " + rings[r].name, rings[r].num_slots * slot, rings[r].num_slots, slot,
                 communicated);
    }
  };
  add_rings(BufferKind::ParameterSlot, plan.parameter_rings, false);
  add_rings(BufferKind::GradientSlot, plan.gradient_rings, true);
  const auto add_floats = [&](Buffer id, const char* name, int64_t count, bool communicated) {
    add(id, name, num_bytes(count, DType::F32), communicated);
  };
  add({BufferKind::Message}, "16-bit message", plan.message_bytes, true);
  add({BufferKind::WeightCopies}, "copies of weights", plan.copies_bytes, false);
  add_floats({BufferKind::MatrixState}, "optimizer state of whole matrices", o.matrix_state_values * plan.matrices.state_elements, false);
  add_floats({BufferKind::WholeMatrices, kMatrixWork}, "whole matrices of a round", plan.matrices.work_elements, true);
  add_floats({BufferKind::WholeMatrices, kMatrixResults}, "updates of matrices", plan.matrices.result_elements, false);
  add_floats({BufferKind::WholeMatrices, kMatrixScratch}, "Newton-Schulz iterations", plan.matrices.scratch_elements, false);
  add({BufferKind::Scalars}, "scalars", num_bytes(scalar_begins(layout, o.summed_scalars).back(), DType::F64), false);
  plan.device_arena_bytes = 0;
  for (const PlannedBuffer& b : plan.buffers) plan.device_arena_bytes += b.bytes;
}

std::array<int64_t, 5> scalar_begins(const ModelLayout& layout, int64_t query_sums) {
  const int64_t norms = 2, queries = norms + std::ssize(layout.groups);
  return {0, 1, norms, queries, queries + query_sums};
}

StateChunks state_chunks(const FlatGroup& group, const Plan& plan) {
  const PlanOptions& o = plan.options;
  StateChunks out;
  if (!group.trainable || !o.update) return out;
  out.has_masters = has_masters(group, o);
  out.arrays = (out.has_masters ? 1 : 0) + (group.assigned ? 0 : o.optimizer_state_values);
  out.part = updates_whole(o) ? group.full_elements() : group.shard_elements();
  if (out.arrays == 0 || out.part == 0) return out;
  out.elements = group.assigned ? out.part : std::min(out.part, plan.limits.sub_group);
  out.count = static_cast<int>((out.part + out.elements - 1) / out.elements);
  return out;
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
    all.options.summed_scalars = std::max(all.options.summed_scalars, plan->options.summed_scalars);
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
