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

std::string first_non_finite(ShardedState& state, const Device& device, const FlatKernels& kernels, Stream& stream) {
  std::string found;
  Arena memory = device.memory("sum of squares", kAlignmentBytes, MemoryKind::PinnedHost);
  auto* const squares = static_cast<double*>(memory.allocate(sizeof(double), "sum"));
  for (const FlatGroup& g : state.layout().groups) {
    if (!g.trainable || !found.empty()) continue;
    const Buffer gradients{BufferKind::Gradients, g.id};
    state.store().fetch(gradients, stream).wait();
    for (const ShardedState::Piece& piece : state.owned(g.id)) {
      *squares = 0;
      kernels.add_squares(state.gradients(g.id, piece), piece.count, squares, stream);
      stream.synchronize();
      if (found.empty() && !std::isfinite(*squares)) found = state.layout().parameter(g, piece.parameter).name;
    }
    state.store().release(gradients, false, stream);
  }
  return found;
}

}  // namespace zerostep
