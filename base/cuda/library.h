#pragma once
#include <memory>

#include "base/device.h"

namespace zerostep {

// What libzerostep_cuda.so is opened for: the function that makes a Device of a GPU, as Device::cuda() describes it.
using OpenCudaDevice = void(int index, std::shared_ptr<const Device::Impl>& device);
constexpr const char* kCudaLibrary = "libzerostep_cuda.so";
constexpr const char* kOpenCudaDevice = "zerostep_open_cuda_device";

}  // namespace zerostep
