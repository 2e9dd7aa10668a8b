#pragma once
#include <span>
#include <vector>

#include "runtime/plan/state_chunks.h"
#include "runtime/state/store.h"

namespace zerostep {

// What a rank keeps of each flat group from step to step, as elements: where parameters, reduced gradients, fp32 masters and the
// optimizer's arrays of which elements lie in the store's buffers. It holds no address; every call asks the store.
class ShardedState {
 public:
  // Collective, as Store. What is passed must outlive the object.
  ShardedState(const ModelLayout& layout, const Plan& plan, Communicator shard_group, const Device& device, const TierOptions& tiers = {});

  const ModelLayout& layout() const { return layout_; }
  // What it was made from: any of an engine's plans.
  const Plan& plan() const { return plan_; }

  // Elements of one parameter that are contiguous in every addressing.
  struct Piece {
    int parameter;             // index within the group
    int64_t parameter_offset;  // from the parameter's first element
    int64_t full_offset;       // in whole buffers
    int64_t shard_offset;      // in shards; of pieces that are updated whole: full_offset
    int64_t part_offset;       // in what the rank updates: the shard, or the whole group
    int64_t count;
    int chunk;  // of update state
  };
  // What this rank updates, in layout order, each piece within one chunk of update state; the union over ranks covers every element (each
  // rank all of them when updated whole).
  const std::vector<Piece>& pieces(int group) const { return nth(updated_, group); }
  // This rank's share by the layout, whatever the stage: each element on one rank. Sums over it do not depend on chunks.
  const std::vector<Piece>& owned(int group) const { return nth(owned_, group); }
  // The same, each piece within one chunk; and what a rank updates.
  static std::vector<Piece> owned_in_chunks(const FlatGroup& group, const Plan& plan, int rank);
  static std::vector<Piece> updated_in_chunks(const FlatGroup& group, const Plan& plan, int rank);

  // Parameters at rest, in the group's type: whole, or this rank's shard.
  std::byte* parameters(int group) const { return store_.view({BufferKind::Parameters, group}); }
  std::byte* parameters(int group, const Piece& piece) const;
  bool has_whole_parameters(int group) const { return keeps_parameters_whole(layout_.group(group), plan_.options); }

  // Reduced gradients: whole, or this rank's shard.
  bool has_gradients(int group) const { return store_.holds(BufferKind::Gradients, group); }
  float* gradients(int group) const { return floats({BufferKind::Gradients, group}); }
  float* gradients(int group, const Piece& piece) const;
  bool has_whole_gradients() const { return keeps_gradients_whole(plan_.options); }
  // What a backward adds to: a slot of the group's ring, or (-1) the group's own buffer.
  float* gradient_sums(int group, int slot) const;

  // The fp32 values that an update changes: masters where the group has them, else its fp32 parameters.
  bool has_masters(int group) const { return nth(chunks_, group).has_masters; }
  float* masters(int group, const Piece& piece) const;
  // The optimizer's arrays of a group.
  int num_arrays(int group) const { return nth(chunks_, group).arrays - (has_masters(group) ? 1 : 0); }
  float* optimizer_array(int group, const Piece& piece, int array) const;
  bool updates_whole_groups() const { return updates_whole(plan_.options); }

  std::byte* parameter_slot(int group, int slot) const {
    return store_.view({BufferKind::ParameterSlot, nth(plan_.parameter_ring_of, group), slot});
  }
  // A piece of what this rank updates in a slot, where the group is whole.
  std::byte* parameters_in_slot(int group, const Piece& piece, int slot) const {
    return parameter_slot(group, slot) + num_bytes(piece.full_offset, layout_.group(group).type);
  }
  std::byte* message() const { return store_.view({BufferKind::Message}); }
  // For the communicator of GPUs (Communicator::lend_staging); empty where the plan has none.
  std::span<std::byte> rank_values() const {
    if (plan_.rank_values_bytes == 0) return {};
    return {store_.view({BufferKind::RankValues}), static_cast<size_t>(plan_.rank_values_bytes)};
  }
  // Of the host's updates, where they are made to copies (HostOperands); empty where the plan has none.
  std::span<std::byte> host_operands() const {
    const Buffer buffer{BufferKind::HostOperands};
    if (!store_.holds(buffer.kind)) return {};
    return {store_.view(buffer), static_cast<size_t>(store_.bytes(buffer))};
  }
  std::byte* weight_copies() const { return store_.view({BufferKind::WeightCopies}); }

  // Of matrices that are assigned to owners (MatrixAssignment says where in them): an array of this rank's, what is worked on, results that
  // arrive, what the iterations need.
  float* matrix_array(int array) const { return floats({BufferKind::MatrixState}) + array * plan_.matrices.state_elements; }
  float* matrix_work() const { return floats({BufferKind::WholeMatrices, kMatrixWork}); }
  float* matrix_results() const { return floats({BufferKind::WholeMatrices, kMatrixResults}); }
  float* matrix_scratch() const { return floats({BufferKind::WholeMatrices, kMatrixScratch}); }

  Store& store() { return store_; }
  const Store& store() const { return store_; }
  int64_t arena_bytes(Tier tier = Tier::Device) const { return store_.arena_bytes(tier); }

 private:
  float* floats(const Buffer& chunk) const { return reinterpret_cast<float*>(store_.view(chunk)); }
  float* array_of_chunk(int group, const Piece& piece, int array) const;

  const ModelLayout& layout_;
  const Plan& plan_;
  Store store_;
  std::vector<StateChunks> chunks_;                  // per group
  std::vector<std::vector<Piece>> updated_, owned_;  // likewise
};

}  // namespace zerostep
