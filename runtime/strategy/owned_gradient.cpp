#include "runtime/strategy/owned_gradient.h"

#include <cmath>

namespace zerostep {

std::vector<OwnedGradient> owned_gradients(const ShardedState& state) {
  std::vector<OwnedGradient> out;
  for (const FlatGroup& g : state.layout().groups) {
    if (!g.trainable) continue;
    for (const ShardedState::Piece& piece : state.owned(g.id))
      out.push_back({&state.layout().parameter(g, piece.parameter), piece.parameter_offset, piece.count,
                     state.has_gradients(g.id) ? state.gradients(g.id, piece) : nullptr});
  }
  return out;
}

std::string first_non_finite(const ShardedState& state, const FlatKernels& kernels, Stream& stream) {
  for (const OwnedGradient& owned : owned_gradients(state)) {
    double squares = 0;
    kernels.add_squares(owned.gradient, owned.count, &squares, stream);
    stream.synchronize();
    if (!std::isfinite(squares)) return owned.parameter->name;
  }
  return "";
}

}  // namespace zerostep
