#pragma once
#include <memory>
#include <string>

#include "base/device.h"

namespace zerostep {

// What libzerostep_cuda.so is opened for: makes a Device of a GPU, as Device::cuda() describes it.
using OpenCudaDevice = void(int index, std::shared_ptr<const Device::Impl>& device);
// GPUs that this process sees; 0 where none answers.
using CountCudaDevices = int();
// Device::gpu_model() of one of them.
using NameCudaDevice = void(int index, std::string& model);
constexpr const char* kCudaLibrary = "libzerostep_cuda.so";

// The function's name ends with the version of what the program and the library share. It changes with Device::Impl, Stream::Impl,
// Event::Impl and Arena, so that a library of another version has no function of this name.
constexpr const char* kOpenCudaDevice = "zerostep_open_cuda_device_6";
constexpr const char* kCountCudaDevices = "zerostep_count_cuda_devices_6";
constexpr const char* kNameCudaDevice = "zerostep_name_cuda_device_6";

// A function of the library, which it opens and never closes: what it makes outlives the call. RunError that says what is missing.
void* function_of_cuda_library(const char* name);

}  // namespace zerostep

extern "C" __attribute__((visibility("default"))) zerostep::OpenCudaDevice zerostep_open_cuda_device_6;
extern "C" __attribute__((visibility("default"))) zerostep::CountCudaDevices zerostep_count_cuda_devices_6;
extern "C" __attribute__((visibility("default"))) zerostep::NameCudaDevice zerostep_name_cuda_device_6;
