#include "runtime/state/sharded_state.h"

#include <algorithm>

#include "base/error.h"

namespace zerostep {
namespace {

using Piece = ShardedState::Piece;

// Pieces whose update state lies in one chunk each.
std::vector<Piece> cut_at_chunks(const std::vector<Piece>& pieces, const StateChunks& chunks) {
  if (chunks.count < 2) return pieces;
  std::vector<Piece> out;
  for (Piece piece : pieces) {
    for (int64_t left = piece.count; left > 0; left -= piece.count) {
      piece.chunk = chunks.chunk_of(piece.part_offset);
      piece.count = std::min(left, chunks.end(piece.chunk) - piece.part_offset);
      out.push_back(piece);
      for (int64_t* offset : {&piece.parameter_offset, &piece.full_offset, &piece.shard_offset, &piece.part_offset}) *offset += piece.count;
    }
  }
  return out;
}

std::vector<Piece> whole_pieces(const FlatGroup& group) {
  std::vector<Piece> out;
  for (int p = 0; p < group.layout.num_parameters(); ++p) {
    const int64_t at = group.layout.offset(p);
    if (group.layout.size(p) > 0) out.push_back({p, 0, at, at, at, group.layout.size(p), 0});
  }
  return out;
}

std::vector<Piece> owned_pieces(const FlatGroup& group, const Plan& plan, int rank) {
  const bool whole = updates_whole(plan.options);
  std::vector<Piece> out;
  for (const FlatLayout::Piece& p : group.layout.pieces(rank))
    out.push_back({p.parameter, p.parameter_offset, p.full_offset, p.shard_offset, whole ? p.full_offset : p.shard_offset, p.count, 0});
  return out;
}

}  // namespace

std::vector<Piece> ShardedState::owned_in_chunks(const FlatGroup& group, const Plan& plan, int rank) {
  return cut_at_chunks(owned_pieces(group, plan, rank), state_chunks(group, plan));
}

std::vector<Piece> ShardedState::updated_in_chunks(const FlatGroup& group, const Plan& plan, int rank) {
  return updates_whole(plan.options) ? cut_at_chunks(whole_pieces(group), state_chunks(group, plan)) : owned_in_chunks(group, plan, rank);
}

ShardedState::ShardedState(const ModelLayout& layout, const Plan& plan, Communicator shard_group, const Device& device,
                           const TierOptions& tiers)
    : layout_(layout), plan_(plan), store_(plan.buffers, shard_group, device, tiers) {
  for (const FlatGroup& g : layout.groups) {
    chunks_.push_back(state_chunks(g, plan));
    owned_.push_back(owned_pieces(g, plan, shard_group.rank()));
    updated_.push_back(updated_in_chunks(g, plan, shard_group.rank()));
  }
}

std::byte* ShardedState::parameters(int group, const Piece& piece) const {
  return parameters(group) + num_bytes(has_whole_parameters(group) ? piece.full_offset : piece.shard_offset, layout_.group(group).type);
}

float* ShardedState::gradients(int group, const Piece& piece) const {
  return gradients(group) + (has_whole_gradients() ? piece.full_offset : piece.shard_offset);
}

float* ShardedState::gradient_sums(int group, int slot) const {
  return slot < 0 ? gradients(group) : floats({BufferKind::GradientSlot, nth(plan_.gradient_ring_of, group), slot});
}

float* ShardedState::array_of_chunk(int group, const Piece& piece, int array) const {
  return floats({BufferKind::UpdateState, group, piece.chunk}) + nth(chunks_, group).offset(piece.chunk, array, piece.part_offset);
}

float* ShardedState::masters(int group, const Piece& piece) const {
  if (has_masters(group)) return array_of_chunk(group, piece, 0);
  if (layout_.group(group).type != DType::F32) fail_protocol("[state] {} has no fp32 values", layout_.group(group).name);
  return reinterpret_cast<float*>(parameters(group, piece));
}

float* ShardedState::optimizer_array(int group, const Piece& piece, int array) const {
  if (array < 0 || array >= num_arrays(group))
    fail_protocol("[state] array {} of {}, which has {}", array, layout_.group(group).name, num_arrays(group));
  return array_of_chunk(group, piece, (has_masters(group) ? 1 : 0) + array);
}

}  // namespace zerostep
