#include "runtime/state/sharded_state.h"

#include "base/error.h"

namespace zerostep {
namespace {

int64_t total(const Plan& plan, bool communicated) {
  int64_t n = 0;
  for (const PlannedBuffer& b : plan.buffers) n += b.communicated == communicated ? b.bytes : 0;
  return n;
}

Arena communicated_arena(const Plan& plan, Communicator& group) {
  const int64_t size = total(plan, true);
  if (size == 0) return Arena("communicated", nullptr, nullptr, 0);
  auto buffer = group.allocate(static_cast<size_t>(size), "arena");
  void* data = buffer->data();
  return Arena("communicated", std::move(buffer), data, size);
}

}  // namespace

ShardedState::ShardedState(const ModelLayout& layout, const Plan& plan, Communicator shard_group, const Device& device)
    : layout_(layout), communicated_(communicated_arena(plan, shard_group)), private_(device.memory("private", total(plan, false))) {
  const PlanOptions& options = plan.options;
  const int rank = shard_group.rank();
  // The order is that of plan.buffers, so sizes and names agree by construction.
  size_t next = 0;
  const auto buffer = [&](int64_t bytes) -> void* {
    if (bytes == 0) return nullptr;
    const PlannedBuffer& planned = plan.buffers.at(next++);
    if (planned.bytes != round_up(bytes, kAlignmentBytes))
      fail_protocol("[state] {} was planned with {} bytes, needs {}", planned.name, planned.bytes, bytes);
    return take(planned);
  };
  for (const FlatGroup& g : layout.groups) {
    Group state;
    state.update_whole = updates_whole(options);
    state.parameters_whole = keeps_parameters_whole(g, options);
    state.gradients_whole = keeps_gradients_whole(options);
    const int64_t part = state.update_whole ? g.full_elements() : g.shard_elements();
    state.parameters = buffer(num_bytes(state.parameters_whole ? g.full_elements() : g.shard_elements(), g.type));
    if (g.trainable && options.update) {
      if (has_masters(g, options)) state.masters = static_cast<float*>(buffer(num_bytes(part, DType::F32)));
      if (plan.has_backward)
        state.gradients =
            static_cast<float*>(buffer(num_bytes(state.gradients_whole ? g.full_elements() : g.shard_elements(), DType::F32)));
      if (!g.assigned) state.optimizer_state = static_cast<float*>(buffer(options.optimizer_state_values * num_bytes(part, DType::F32)));
    }
    groups_.push_back(state);

    owned_.push_back(g.layout.pieces(rank));
    auto& pieces = pieces_.emplace_back();
    if (state.update_whole) {
      for (int p = 0; p < g.layout.num_parameters(); ++p)
        if (g.layout.size(p) > 0) pieces.push_back({p, 0, g.layout.offset(p), g.layout.offset(p), g.layout.size(p)});
    } else {
      for (const FlatLayout::Piece& p : owned_.back())
        pieces.push_back({p.parameter, p.parameter_offset, p.full_offset, p.shard_offset, p.count});
    }
  }
  const auto rings = [&](const std::vector<RingPlan>& planned, std::vector<Slots>& slots) {
    for (const RingPlan& ring : planned) {
      const int64_t stride = round_up(ring.slot_bytes, kAlignmentBytes);
      slots.push_back({static_cast<std::byte*>(buffer(stride * ring.num_slots)), stride, ring.num_slots});
    }
  };
  rings(plan.parameter_rings, parameter_slots_);
  rings(plan.gradient_rings, gradient_slots_);
  message_ = buffer(plan.message_bytes);
  copies_ = static_cast<std::byte*>(buffer(plan.copies_bytes));
  const auto floats = [&](int64_t count) { return static_cast<float*>(buffer(num_bytes(count, DType::F32))); };
  matrices_.optimizer_state = floats(options.matrix_state_values * plan.matrices.state_elements);
  matrices_.work = floats(plan.matrices.work_elements);
  matrices_.results = floats(plan.matrices.result_elements);
  matrices_.scratch = floats(plan.matrices.scratch_elements);
  if (next != plan.buffers.size()) fail_protocol("[state] {} buffers were planned, {} are used", plan.buffers.size(), next);
}

void* ShardedState::take(const PlannedBuffer& buffer) {
  return (buffer.communicated ? communicated_ : private_).allocate(buffer.bytes, buffer.name);
}

void* ShardedState::slot_of(const std::vector<Slots>& rings, int ring, int slot) {
  const Slots& slots = rings.at(static_cast<size_t>(ring));
  if (slot < 0 || slot >= slots.count) fail_protocol("[state] ring {} has {} slots, slot {} was asked for", ring, slots.count, slot);
  return slots.data + slot * slots.stride;
}

float* ShardedState::master_at(int id, const Piece& piece) const {
  const Group& g = group(id);
  if (g.masters != nullptr) return g.masters + piece.part_offset;
  return static_cast<float*>(g.parameters) + (g.parameters_whole ? piece.full_offset : piece.part_offset);
}

float* ShardedState::gradient_at(int id, const Piece& piece) const {
  const Group& g = group(id);
  return g.gradients + (g.gradients_whole ? piece.full_offset : piece.part_offset);
}

void* ShardedState::parameters_at(int id, const Piece& piece) const {
  const Group& g = group(id);
  const int64_t at = g.parameters_whole ? piece.full_offset : piece.part_offset;
  return static_cast<std::byte*>(g.parameters) + num_bytes(at, layout_.group(id).type);
}

}  // namespace zerostep
