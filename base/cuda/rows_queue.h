#pragma once
#include <cuda_runtime_api.h>

namespace zerostep::cuda {

// Where kernels are queued: a stream of the current device, and the most blocks of a launch that make it quicker.
struct RowsQueue {
  cudaStream_t stream = nullptr;
  unsigned max_blocks = 1;
};

}  // namespace zerostep::cuda
