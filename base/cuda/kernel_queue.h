#pragma once
#include <cuda_runtime_api.h>

namespace zerostep::cuda {

// Where kernels are queued: a stream of the current device, and the most blocks of a launch that make it quicker.
struct KernelQueue {
  cudaStream_t stream = nullptr;
  unsigned max_blocks = 1;
};

constexpr unsigned kThreadsPerBlock = 256;

// The most blocks of a launch on a device: four rounds of all that it holds at once, which end more evenly than one. Returns what kept them
// from being known.
inline cudaError_t find_max_blocks(int device, unsigned& max_blocks) {
  int processors = 0, threads = 0;
  cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, device);
  if (error == cudaSuccess) max_blocks = 4 * static_cast<unsigned>(processors) * (static_cast<unsigned>(threads) / kThreadsPerBlock);
  return error;
}

}  // namespace zerostep::cuda
