#include <cstddef>

#include "fake_gpu/machine.h"

// The runtime's functions with which nvcc's code registers and launches kernels.

using fake_gpu::enter;
using fake_gpu::fail;
using fake_gpu::Machine;

namespace {

using Body = void (*)(dim3 blocks, dim3 threads, const void* argument);

struct Kernel {
  size_t argument_bytes = 0;
  Body body = nullptr;
};

struct Kernels {
  std::mutex mutex;
  std::map<const void*, Kernel> known;
};

Kernels& kernels() {
  static auto* const all = new Kernels;
  return *all;
}

struct Configuration {
  dim3 blocks, threads;
  size_t shared_bytes = 0;
  cudaStream_t stream = nullptr;
};
thread_local Configuration configuration;

}  // namespace

// The weak symbol of launch.cuh: a kernel of one argument, and its body on the host.
FAKE_GPU_API void fake_gpu_register_kernel(const void* kernel, size_t argument_bytes, Body body) {
  std::lock_guard lock(kernels().mutex);
  kernels().known[kernel] = {argument_bytes, body};
}

FAKE_GPU_API cudaError_t cudaLaunchKernel(const void* function, dim3 blocks, dim3 threads, void** arguments, size_t, cudaStream_t stream) {
  if (const cudaError_t error = enter(__func__); error != cudaSuccess) return error;
  const auto queue = Machine::instance().queue(stream);
  if (!queue || queue->device() != fake_gpu::current_device()) return fail(cudaErrorInvalidResourceHandle);
  Kernel kernel;
  {
    std::lock_guard lock(kernels().mutex);
    const auto found = kernels().known.find(function);
    if (found == kernels().known.end()) return fail(cudaErrorInvalidDeviceFunction);
    kernel = found->second;
  }
  const auto* begin = static_cast<const std::byte*>(arguments[0]);
  auto argument = std::make_shared<std::vector<std::byte>>(begin, begin + kernel.argument_bytes);
  queue->push([=] {
    Machine::instance().memory().change_access(1);
    kernel.body(blocks, threads, argument->data());
    Machine::instance().memory().change_access(-1);
  });
  return cudaSuccess;
}

FAKE_GPU_API void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}
FAKE_GPU_API void __cudaRegisterFatBinaryEnd(void**) {}
FAKE_GPU_API void __cudaUnregisterFatBinary(void**) {}
FAKE_GPU_API void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
FAKE_GPU_API void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*, int*) {}

FAKE_GPU_API unsigned __cudaPushCallConfiguration(dim3 blocks, dim3 threads, size_t shared_bytes, cudaStream_t stream) {
  configuration = {blocks, threads, shared_bytes, stream};
  return 0;
}

FAKE_GPU_API cudaError_t __cudaPopCallConfiguration(dim3* blocks, dim3* threads, size_t* shared_bytes, void* stream) {
  *blocks = configuration.blocks;
  *threads = configuration.threads;
  *shared_bytes = configuration.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = configuration.stream;
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}

FAKE_GPU_API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 blocks, dim3 threads, void** arguments, size_t shared_bytes,
                                            cudaStream_t stream) {
  return cudaLaunchKernel(kernel, blocks, threads, arguments, shared_bytes, stream);
}
