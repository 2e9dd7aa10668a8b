#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "offload/host_operands.h"
#include "runtime/plan/state_chunks.h"

namespace zerostep {

bool keeps_parameters_whole(const FlatGroup& group, const PlanOptions& options) {
  return options.stage < 3 || group.persistent || (group.layout.ranks() == 1 && group.tier == Tier::Device);
}
bool keeps_gradients_whole(const PlanOptions& options) {
  return options.stage <= 1 || (options.world == 1 && options.gradient_tier == Tier::Device);
}
bool updates_on_host(const FlatGroup& group, const Plan& plan) {
  return group.state_tier != Tier::Device && state_chunks(group, plan).count > 0;
}
bool updates_copies(const FlatGroup& group, const Plan& plan) {
  return !plan.options.host_is_device && !group.assigned && updates_on_host(group, plan) && group.tier == Tier::Device;
}
bool updates_in_slot(const FlatGroup& group, const Plan& plan) {
  return !plan.options.host_is_device && !group.assigned && group.tier != Tier::Device && !keeps_parameters_whole(group, plan.options) &&
         !updates_on_host(group, plan);
}
bool updates_whole(const PlanOptions& options) { return options.stage == 0 || options.world == 1; }

int checkpoint_slots(const PlanOptions& options) {
  const std::vector<int64_t>& bytes = options.host_checkpoints;
  return static_cast<int>(
      std::min<std::ptrdiff_t>(kMostCheckpointSlots, std::count_if(bytes.begin(), bytes.end(), [](int64_t n) { return n > 0; })));
}

int checkpoint_slot(const PlanOptions& options, int unit) {
  const std::vector<int64_t>& bytes = options.host_checkpoints;
  if (bytes.empty() || nth(bytes, unit) == 0) return -1;
  return static_cast<int>(std::count_if(bytes.begin() + unit + 1, bytes.end(), [](int64_t n) { return n > 0; })) %
         checkpoint_slots(options);
}

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

int64_t rank_values_bytes(const ModelLayout& layout, const Plan& plan) {
  const int64_t ranks = plan.options.world;
  int64_t most = 0;
  if (plan.options.host_is_device || ranks == 1) return 0;
  for (const Action& a : plan.actions) {
    if (a.kind != ActionKind::Reduce) continue;
    int64_t bytes = kAlignmentBytes;
    for (const CollectivePart& part : a.parts)
      for (int s = part.slice_begin; s < part.slice_end; ++s) {
        // A rank's part begins at a multiple of 16 elements.
        const int64_t part_elements = round_up(layout.group(part.group).layout.slice(s).per_rank, 16);
        bytes += round_up((ranks - 1) * num_bytes(part_elements, plan.options.communication_type), kAlignmentBytes);
      }
    most = std::max(most, bytes);
  }
  return std::min(most, kMostRankValueBytes);
}

namespace {

// For copies of what the host updates on a GPU.
int64_t host_operand_bytes(const ModelLayout& layout, const Plan& plan) {
  int64_t elements = 0;
  for (const FlatGroup& g : layout.groups)
    if (updates_copies(g, plan)) elements = std::max(elements, state_chunks(g, plan).elements);
  elements = round_up(std::min(elements, HostOperands::kMostElements), kAlignmentBytes / num_bytes(1, DType::F32));
  return HostOperands::kSlots * elements * HostOperands::kBytesOfElement;
}

// Slots for what rests in files. Buffers of similar size share a ring, and their chunks take its slots in turn.
void add_staging(Plan& plan) {
  plan.staging_rings.clear();
  for (const BufferKind kind : {BufferKind::Parameters, BufferKind::Gradients, BufferKind::UpdateState}) {
    std::vector<int64_t> sizes;
    for (const PlannedBuffer& b : plan.buffers)
      if (b.id.kind == kind && b.tier == Tier::File) sizes.push_back(b.chunk_bytes);
    std::sort(sizes.rbegin(), sizes.rend());
    const int64_t most = kind == BufferKind::Parameters ? plan.options.parameter_buffers : plan.options.state_buffers;
    while (!sizes.empty()) {
      const int ring = static_cast<int>(plan.staging_rings.size());
      const int64_t largest = sizes.front(), smallest = largest - largest / 8;
      StagingRing& added = plan.staging_rings.emplace_back(StagingRing{kind, fmt::format("staging of {}", name_of(kind)), largest, 0});
      int chunks = 0;
      for (PlannedBuffer& b : plan.buffers) {
        if (b.id.kind != kind || b.tier != Tier::File || b.chunk_bytes > largest || b.chunk_bytes < smallest) continue;
        b.staging_ring = ring;
        b.first_slot = chunks;
        chunks += b.num_chunks;
      }
      added.num_slots = static_cast<int>(std::min<int64_t>(most, chunks));
      std::erase_if(sizes, [&](int64_t size) { return size >= smallest; });
    }
  }
  // Ranks do not share these slots, although a gather would then copy less: shared memory has small pages, and of large ones a disk takes a
  // block in fewer pieces.
  for (int r = 0; r < std::ssize(plan.staging_rings); ++r) {
    const StagingRing& ring = nth(plan.staging_rings, r);
    plan.buffers.push_back(
        {{BufferKind::StagingSlot, r}, ring.name, ring.num_slots * ring.slot_bytes, ring.num_slots, ring.slot_bytes, false, Tier::Host});
  }
}

}  // namespace

void list_buffers(const ModelLayout& layout, Plan& plan) {
  const PlanOptions& o = plan.options;
  plan.buffers.clear();
  const auto add_chunks = [&](Buffer id, const std::string& name, int64_t bytes, int num_chunks, int64_t chunk_bytes, bool communicated,
                              Tier tier) {
    if (bytes == 0) return;
    const bool shared = communicated && layout.options.shard_ranks > 1;
    if (tier != Tier::File)
      return plan.buffers.push_back({id, name, round_up(bytes, kAlignmentBytes), num_chunks, chunk_bytes, shared, tier});
    const int64_t chunk = round_up(chunk_bytes, kFileAlignmentBytes),
                  last = round_up(bytes - (num_chunks - 1) * chunk_bytes, kFileAlignmentBytes);
    plan.buffers.push_back({id, name, (num_chunks - 1) * chunk + last, num_chunks, chunk, shared, tier});
  };
  const auto add = [&](Buffer id, const std::string& name, int64_t bytes, bool communicated, Tier tier = Tier::Device) {
    add_chunks(id, name, bytes, 1, round_up(bytes, kAlignmentBytes), communicated, tier);
  };
  for (const FlatGroup& g : layout.groups) {
    const bool whole = keeps_parameters_whole(g, o), whole_gradients = keeps_gradients_whole(o);
    add({BufferKind::Parameters, g.id}, "parameters " + g.name, num_bytes(whole ? g.full_elements() : g.shard_elements(), g.type), true,
        g.tier);
    if (!g.trainable || !o.update) continue;
    if (plan.has_backward)
      add({BufferKind::Gradients, g.id}, "gradients " + g.name,
          num_bytes(whole_gradients ? g.full_elements() : g.shard_elements(), DType::F32), whole_gradients || g.assigned,
          whole_gradients ? Tier::Device
          : g.assigned    ? at_most_host(o.gradient_tier)
                          : o.gradient_tier);
    const StateChunks chunks = state_chunks(g, plan);
    if (chunks.count == 0) continue;
    const char* what = !chunks.has_masters ? "optimizer state " : chunks.arrays > 1 ? "masters and optimizer state " : "masters ";
    add_chunks({BufferKind::UpdateState, g.id}, what + g.name, chunks.bytes(), chunks.count, chunks.chunk_bytes(), false, g.state_tier);
  }
  const auto add_rings = [&](BufferKind kind, const std::vector<RingPlan>& rings, bool communicated) {
    for (size_t r = 0; r < rings.size(); ++r) {
      const int64_t slot = round_up(rings[r].slot_bytes, kAlignmentBytes);
      add_chunks({kind, static_cast<int>(r)}, "slots of " + rings[r].name, rings[r].num_slots * slot, rings[r].num_slots, slot,
                 communicated, Tier::Device);
    }
  };
  add_rings(BufferKind::ParameterSlot, plan.parameter_rings, false);
  add_rings(BufferKind::GradientSlot, plan.gradient_rings, true);
  const auto add_floats = [&](Buffer id, const char* name, int64_t count, bool communicated, Tier tier = Tier::Device) {
    add(id, name, num_bytes(count, DType::F32), communicated, tier);
  };
  if (const int slots = checkpoint_slots(o); slots > 0 && plan.has_backward) {
    for (int u = 0; u < std::ssize(o.host_checkpoints); ++u)
      add({BufferKind::Checkpoint, u}, "checkpoint " + layout.unit(u).name, nth(o.host_checkpoints, u), false, Tier::Host);
    const int64_t slot = round_up(*std::max_element(o.host_checkpoints.begin(), o.host_checkpoints.end()), kAlignmentBytes);
    add_chunks({BufferKind::CheckpointSlot}, "slots of checkpoints", slots * slot, slots, slot, false, Tier::Device);
  }
  add({BufferKind::Message}, "16-bit message", plan.message_bytes, true);
  add({BufferKind::RankValues}, "values of other ranks", plan.rank_values_bytes, false);
  add({BufferKind::HostOperands}, "operands of the host's updates", host_operand_bytes(layout, plan), false, Tier::Host);
  add({BufferKind::WeightCopies}, "copies of weights", plan.copies_bytes, false);
  add_floats({BufferKind::MatrixState}, "optimizer state of whole matrices", o.matrix_state_values * plan.matrices.state_elements, false,
             at_most_host(layout.options.state_tier));
  add_floats({BufferKind::WholeMatrices, kMatrixWork}, "whole matrices of a round", plan.matrices.work_elements, true);
  add_floats({BufferKind::WholeMatrices, kMatrixResults}, "updates of matrices", plan.matrices.result_elements, false);
  add_floats({BufferKind::WholeMatrices, kMatrixScratch}, "Newton-Schulz iterations", plan.matrices.scratch_elements, false);
  add({BufferKind::Scalars}, "scalars", num_bytes(scalar_begins(layout, o.summed_scalars).back(), DType::F64), false);
  add_staging(plan);
  plan.arena_bytes = {};
  for (const PlannedBuffer& b : plan.buffers) nth(plan.arena_bytes, b.tier) += b.bytes;
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
    all.rank_values_bytes = std::max(all.rank_values_bytes, plan->rank_values_bytes);
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
    plan->rank_values_bytes = all.rank_values_bytes;
    plan->buffers = all.buffers;
    plan->staging_rings = all.staging_rings;
    plan->arena_bytes = all.arena_bytes;
  }
}

}  // namespace zerostep
