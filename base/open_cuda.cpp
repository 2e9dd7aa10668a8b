#include <dlfcn.h>

#include "base/beside_program.h"
#include "base/cuda/cuda_library.h"
#include "base/error.h"

namespace zerostep {
namespace {

// Whether the driver's library, without which no GPU answers, is loaded or can be: far quicker than to open ours to learn that.
bool has_driver() { return dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) != nullptr; }

}  // namespace

void* function_of_cuda_library(const char* name) {
  return function_beside_program<void>(
      kCudaLibrary, name,
      fmt::format("a GPU needs {}, which a build for CUDA puts beside the program and which cannot be opened", kCudaLibrary));
}

Device Device::cuda(int index) {
  auto* const open = reinterpret_cast<OpenCudaDevice*>(function_of_cuda_library(kOpenCudaDevice));
  std::shared_ptr<const Impl> device;
  open(index, device);
  return Device(std::move(device));
}

bool Device::has_cuda_library() {
  std::string problem;
  return address_beside_program(kCudaLibrary, kOpenCudaDevice, "", problem) != nullptr;
}

int Device::num_gpus() {
  std::string problem;
  void* const count = has_driver() ? address_beside_program(kCudaLibrary, kCountCudaDevices, "", problem) : nullptr;
  return count == nullptr ? 0 : reinterpret_cast<CountCudaDevices*>(count)();
}

std::string Device::gpu_model(int index) {
  std::string problem, model;
  void* const name = has_driver() ? address_beside_program(kCudaLibrary, kNameCudaDevice, "", problem) : nullptr;
  if (name != nullptr) reinterpret_cast<NameCudaDevice*>(name)(index, model);
  return model;
}

}  // namespace zerostep
