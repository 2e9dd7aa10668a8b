#pragma once
#include <cstdint>

#include "base/cuda/kernel_queue.h"
#include "base/dtype.h"

namespace zerostep::cuda {

// Queued; each returns what kept it from being queued. Arrays of `count` elements of one type.
cudaError_t swiglu(const KernelQueue& queue, DType type, const void* gate, const void* up, void* out, int64_t count);
cudaError_t swiglu_backward(const KernelQueue& queue, DType type, void* gate, void* up, void* gradient, int64_t count);

// Halves of `half` elements: rows [count, heads, 2, half], of which row r has the cosines and sines [positions, half] of position r mod
// positions. direction: 1, or -1 backwards.
struct RotatedRows {
  void* rows;
  DType type;
  int64_t count, heads, half, positions;
  const float *cosine, *sine;
  float direction;
};
cudaError_t rotate(const KernelQueue& queue, const RotatedRows& rows);

}  // namespace zerostep::cuda
