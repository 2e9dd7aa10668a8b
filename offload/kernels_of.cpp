#include "base/cuda/cuda_library.h"
#include "offload/cuda/cuda_kernels.h"
#include "offload/flat_kernels.h"

namespace zerostep {

const FlatKernels& kernels_of(const Device& device) {
  if (device.is_host()) return host_kernels();
  return reinterpret_cast<CudaKernelsOf*>(function_of_cuda_library(kCudaKernelsOf))(*device.impl());
}

}  // namespace zerostep
