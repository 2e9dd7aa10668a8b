#pragma once
#include "base/cuda/kernel_queue.h"
#include "base/dtype.h"

namespace zerostep::cuda {

// Logits [rows, columns], one row behind the other, of columns [first, first + columns) of the vocabulary, and the rows' labels.
struct LogitsPart {
  const void* logits;
  DType type;
  const int64_t* labels;
  int64_t rows, columns, first;
};

// As DeviceKernels says, queued; each returns what kept it from being queued.
cudaError_t add_logits(const KernelQueue& queue, const LogitsPart& part, float* statistics);
cudaError_t sum_losses(const KernelQueue& queue, const float* statistics, const int64_t* labels, int64_t rows, double* total);
cudaError_t logits_gradient(const KernelQueue& queue, const LogitsPart& part, const float* statistics, const float* factor, void* gradient);

}  // namespace zerostep::cuda
