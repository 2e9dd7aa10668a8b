#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

// Defined where a runtime on the processor stands in for CUDA's, in tests without a GPU: it then runs `run` for each launch of `kernel`.
extern "C" __attribute__((weak)) void fake_gpu_register_kernel(const void* kernel, size_t argument_bytes,
                                                               void (*run)(dim3 blocks, dim3 threads, const void* argument));

namespace zerostep::cuda {

constexpr unsigned kThreadsPerBlock = 256;

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

// Queues body(ThreadIndex) for every thread of `num_blocks` blocks on the stream, whose device is the current one. The body is a functor
// with a `__host__ __device__ void operator()(ThreadIndex) const`, whose threads do not wait for each other; it is copied. Returns what
// kept it from being queued.
template <typename Body>
cudaError_t launch(cudaStream_t stream, unsigned num_blocks, const Body& body) {
  static_assert(std::is_trivially_copyable_v<Body>, "a kernel's argument is copied byte by byte");
  const auto* kernel = reinterpret_cast<const void*>(&run_body<Body>);
  if (fake_gpu_register_kernel != nullptr) fake_gpu_register_kernel(kernel, sizeof(Body), &run_body_on_host<Body>);
  const void* argument = &body;
  // Unlike <<<>>> with cudaGetLastError() this tells no error of an earlier call.
  return cudaLaunchKernel(kernel, dim3(num_blocks), dim3(kThreadsPerBlock), const_cast<void**>(&argument), 0, stream);
}

}  // namespace zerostep::cuda
