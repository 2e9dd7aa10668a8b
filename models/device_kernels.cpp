#include "models/device_kernels.h"

#include <map>

#include "base/cuda/cuda_library.h"
#include "models/cuda/cuda_model_kernels.h"
#include "models/kernel_rows.h"

namespace zerostep {

namespace {

std::map<at::DeviceType, const DeviceKernels*>& chosen_kernels() {
  static std::map<at::DeviceType, const DeviceKernels*> kernels;
  return kernels;
}

}  // namespace

const DeviceKernels* device_kernels(at::DeviceType type) {
  if (const auto chosen = chosen_kernels().find(type); chosen != chosen_kernels().end()) return chosen->second;
  if (type != at::kCUDA) return nullptr;
  static const DeviceKernels& of_library = reinterpret_cast<CudaModelKernels*>(function_of_cuda_library(kCudaModelKernels))();
  return &of_library;
}

const DeviceKernels* device_kernels_of(const at::Tensor& tensor) {
  return has_kernels(tensor) ? nullptr : device_kernels(tensor.device().type());
}

void set_device_kernels(at::DeviceType type, const DeviceKernels* kernels) { chosen_kernels()[type] = kernels; }

}  // namespace zerostep
