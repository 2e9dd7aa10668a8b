#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/cuda/kernel_queue.h"

// Defined where a runtime on the processor stands in for CUDA's, in tests without a GPU: it then runs `run` for each launch of `kernel`.
extern "C" __attribute__((weak)) void fake_gpu_register_kernel(const void* kernel, size_t argument_bytes,
                                                               void (*run)(dim3 blocks, dim3 threads, const void* argument));

namespace zerostep::cuda {

// Which thread of a launch a body runs for.
struct ThreadIndex {
  uint64_t thread, num_threads;
};

template <typename Body>
__global__ void __launch_bounds__(kThreadsPerBlock, 2) run_body(const Body body) {
  body(ThreadIndex{blockIdx.x * uint64_t{blockDim.x} + threadIdx.x, gridDim.x * uint64_t{blockDim.x}});
}

template <typename Body>
void run_body_on_host(dim3 blocks, dim3 threads, const void* argument) {
  const Body& body = *static_cast<const Body*>(argument);
  const uint64_t num_threads = uint64_t{blocks.x} * threads.x;
  for (uint64_t thread = 0; thread < num_threads; ++thread) body(ThreadIndex{thread, num_threads});
}

// Queues a kernel of one argument, which is copied, on the stream, whose device is the current one; `on_host` is what it does there.
// Returns what kept it from being queued.
template <typename Argument>
cudaError_t launch_kernel(const void* kernel, void (*on_host)(dim3, dim3, const void*), cudaStream_t stream, unsigned num_blocks,
                          const Argument& argument) {
  static_assert(std::is_trivially_copyable_v<Argument>, "a kernel's argument is copied byte by byte");
  if (fake_gpu_register_kernel != nullptr) fake_gpu_register_kernel(kernel, sizeof(Argument), on_host);
  const void* arguments = &argument;
  // Unlike <<<>>> with cudaGetLastError() this tells no error of an earlier call.
  return cudaLaunchKernel(kernel, dim3(num_blocks), dim3(kThreadsPerBlock), const_cast<void**>(&arguments), 0, stream);
}

// Queues body(ThreadIndex) for every thread of `num_blocks` blocks. The body is a functor with a `__host__ __device__ void
// operator()(ThreadIndex) const`, whose threads do not wait for each other.
template <typename Body>
cudaError_t launch(cudaStream_t stream, unsigned num_blocks, const Body& body) {
  return launch_kernel(reinterpret_cast<const void*>(&run_body<Body>), &run_body_on_host<Body>, stream, num_blocks, body);
}

// Queues a body as launch() does, for `num_threads` threads or for fewer that take several places each.
template <class Body>
cudaError_t launch_threads(const KernelQueue& queue, int64_t num_threads, const Body& body) {
  if (num_threads <= 0) return cudaSuccess;
  const int64_t blocks = (num_threads + kThreadsPerBlock - 1) / kThreadsPerBlock;
  return launch(queue.stream, static_cast<unsigned>(std::min<int64_t>(blocks, queue.max_blocks)), body);
}

}  // namespace zerostep::cuda
