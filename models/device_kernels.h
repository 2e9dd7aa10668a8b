#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "models/dropout_mask.h"

namespace zerostep {

// Kernels of the models for devices other than the CPU. Where a device has none, LibTorch's operations do the work. Kernels queue it on
// LibTorch's current stream and do not wait for it.
class DeviceKernels {
 public:
  virtual ~DeviceKernels() = default;
  // values [samples, ...], contiguous, fp32, bf16 or fp16, are masked in place: as fp32, rounded once. An id for each sample, which are
  // read before it returns.
  virtual void drop(const at::Tensor& values, const DropoutMask& mask, std::span<const int64_t> sample_ids) const = 0;
};

// Those of a type of device; nullptr: none. CUDA's are in libzerostep_cuda.so, which is opened for them: RunError where it cannot be.
const DeviceKernels* device_kernels(at::DeviceType type);
// Lets units find `kernels`, which the caller keeps, or nullptr, instead. Not while units run.
void set_device_kernels(at::DeviceType type, const DeviceKernels* kernels);

}  // namespace zerostep
