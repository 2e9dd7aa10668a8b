#pragma once
#include <cstdint>

namespace zerostep {

// LibTorch's allocator for CUDA takes memory of a GPU in pieces and gives them out in parts (c10/core/AllocatorConfig.h): of 2 MiB for
// tensors of up to 1 MiB, of 20 MiB for those below 10 MiB, and for larger ones of the tensor's own size, rounded up to 2 MiB.
constexpr int64_t kSmallPieceBytes = int64_t{2} << 20, kLargePieceBytes = int64_t{20} << 20;
constexpr int64_t kMostInSmallPiece = int64_t{1} << 20, kLeastWithOwnPiece = int64_t{10} << 20;

// Bytes that its pieces may hold beside `tensor_bytes` of tensors, most of which are of a unit's output (`output_bytes`) or larger.
//
// One piece of either kind is begun and hardly filled. A tensor is at most half of a piece that others share: a piece is left for a new one
// when it has no room for a third, and so is two thirds full, beside which half of the tensors' bytes are empty. A tensor with a piece of
// its own is at least 10 MiB and leaves less than 2 MiB empty, a fifth; pieces that one tensor has left and that smaller ones then share
// come on top, of which no rule says how much they are: a quarter in all is more than any step needed on the GPU of the tests.
int64_t most_beside_tensors(int64_t tensor_bytes, int64_t output_bytes);

}  // namespace zerostep
