#include "runtime/plan/tensor_pieces.h"

namespace zerostep {

int64_t most_beside_tensors(int64_t tensor_bytes, int64_t output_bytes) {
  if (tensor_bytes <= 0) return 0;
  const int64_t begun = kSmallPieceBytes + (tensor_bytes > kMostInSmallPiece ? kLargePieceBytes : 0);
  return begun + tensor_bytes / (output_bytes < kLeastWithOwnPiece ? 2 : 4);
}

}  // namespace zerostep
