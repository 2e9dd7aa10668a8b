#pragma once
#include "models/device_kernels.h"

namespace zerostep {

// The function of libzerostep_cuda.so (base/cuda/cuda_library.h) behind device_kernels(). Its name ends with the version of DeviceKernels.
using CudaModelKernels = const DeviceKernels&();
constexpr const char* kCudaModelKernels = "zerostep_cuda_model_kernels_3";

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::CudaModelKernels zerostep_cuda_model_kernels_3;
