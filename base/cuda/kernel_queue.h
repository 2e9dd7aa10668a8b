#pragma once
#include <cuda_runtime_api.h>

namespace zerostep::cuda {

// Where kernels are queued: a stream of the current device, and the most blocks of a launch that make it quicker.
struct KernelQueue {
  cudaStream_t stream = nullptr;
  unsigned max_blocks = 1;
};

// The most blocks of a launch on a device: several rounds of them, of which a processor has room for 8 at most, end more evenly than one.
// Returns what kept them from being known.
inline cudaError_t find_max_blocks(int device, unsigned& max_blocks) {
  int processors = 0;
  const cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) max_blocks = static_cast<unsigned>(processors) * 32;
  return error;
}

}  // namespace zerostep::cuda
