#pragma once
#include <vector>

#include "runtime/plan/plan.h"
#include "runtime/state/state_piece.h"

namespace zerostep {

// A piece of a rank's state, and where in its buffers it lies.
struct StatePlace {
  StatePiece piece;
  Buffer chunk;
  int64_t byte_offset;  // in the chunk
};

// The parameters and the optimizer's arrays on a rank, as data: of the elements that it owns (each element on one rank, whatever the
// stage), or of those that it updates (at stage 0 all of them).
enum class Elements : uint8_t { Owned, Updated };
std::vector<StatePlace> state_places(const ModelLayout& layout, const Plan& plan, int rank, Elements elements);

}  // namespace zerostep
