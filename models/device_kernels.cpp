#include "models/device_kernels.h"

#include <array>

#include "base/nth.h"

namespace zerostep {

namespace {

std::array<const DeviceKernels*, at::COMPILE_TIME_MAX_DEVICE_TYPES>& all_kernels() {
  static std::array<const DeviceKernels*, at::COMPILE_TIME_MAX_DEVICE_TYPES> kernels{};
  return kernels;
}

}  // namespace

const DeviceKernels* device_kernels(at::DeviceType type) { return nth(all_kernels(), static_cast<int64_t>(type)); }
void set_device_kernels(at::DeviceType type, const DeviceKernels* kernels) { nth(all_kernels(), static_cast<int64_t>(type)) = kernels; }

}  // namespace zerostep
