#include "runtime/strategy/unchanged_weights.h"

namespace zerostep {

std::optional<double> unchanged_share(const Directions& directions, ShardedState& state, int64_t step, const AddOverRanks& add) {
  double counts[kUnchangedScalars] = {0, 0};  // unchanged, all
  for (const FlatGroup& g : state.layout().groups) {
    if (!g.trainable || !is_16bit(g.compute_type)) continue;
    const Buffer parameters{BufferKind::Parameters, g.id};
    Stream stream = directions.stream();
    state.store().fetch(parameters, stream).wait();
    for (const ShardedState::Piece& piece : state.pieces(g.id)) {
      PerturbedPiece values;
      values.base = state.parameters(g.id, piece);
      values.base_type = g.type;
      values.target_type = g.compute_type;
      values.count = piece.count;
      counts[0] += static_cast<double>(
          directions.count_unchanged(step, 0, state.layout().parameter(g, piece.parameter), piece.parameter_offset, values));
      counts[1] += static_cast<double>(piece.count);
    }
    state.store().release(parameters, false, stream);
  }
  add(counts, "weights that epsilon leaves unchanged");
  if (counts[1] == 0) return std::nullopt;
  return counts[0] / counts[1];
}

}  // namespace zerostep
