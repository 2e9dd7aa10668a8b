#pragma once
#include "base/device.h"
#include "offload/flat_kernels.h"

namespace zerostep {

// The function of libzerostep_cuda.so (base/cuda/cuda_library.h) behind kernels_of(). Its name ends with the version of FlatKernels and its
// operands.
using CudaKernelsOf = const FlatKernels&(const Device::Impl& device);
constexpr const char* kCudaKernelsOf = "zerostep_cuda_kernels_2";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::CudaKernelsOf zerostep_cuda_kernels_2;
