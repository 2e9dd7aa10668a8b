#pragma once
#include <cstdint>

#include "base/cuda/kernel_queue.h"
#include "base/dtype.h"

namespace zerostep::cuda {

// Rows [count, width] of one type. Consecutive `rows_each` of them have one gain and one offset, fp32, and the next ones those that lie a
// stride behind, which is 0 where all have the same.
struct NormRows {
  const void* rows;
  DType type;
  int64_t count, width, rows_each;
  const float* gain;
  int64_t gain_stride;
  const float* offset;  // of a LayerNorm
  int64_t offset_stride;
  float epsilon;
};

// The backward's rows whose gradients of gain (and, behind it, of offset) one sum has: [norm_groups(count), width] or [.., 2, width].
int64_t norm_groups(int64_t count);

// Queued; each returns what kept it from being queued. mean, rstd [count], partial, a rows' gradient: nullptr: not wanted.
cudaError_t layer_norm(const KernelQueue& queue, const NormRows& rows, void* out, float* mean, float* rstd);
cudaError_t layer_norm_backward(const KernelQueue& queue, const NormRows& rows, const void* gradient, const float* mean, const float* rstd,
                                void* out, float* partial);
cudaError_t rms_norm(const KernelQueue& queue, const NormRows& rows, void* out);
// The gradient becomes that of the rows.
cudaError_t rms_norm_backward(const KernelQueue& queue, const NormRows& rows, void* gradient, float* partial);

}  // namespace zerostep::cuda
