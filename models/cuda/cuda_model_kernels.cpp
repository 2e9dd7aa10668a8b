#include "models/cuda/cuda_model_kernels.h"

#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "base/error.h"
#include "models/cuda/dropout.h"

namespace zerostep {
namespace {

DType element_type(const at::Tensor& values) {
  switch (values.scalar_type()) {
    case at::kFloat:
      return DType::F32;
    case at::kBFloat16:
      return DType::BF16;
    case at::kHalf:
      return DType::F16;
    default:
      fail_protocol("[dropout] expected values of fp32, bf16 or fp16");
  }
}

class Kernels final : public DeviceKernels {
 public:
  void drop(const at::Tensor& values, const DropoutMask& mask, std::span<const int64_t> sample_ids) const override {
    if (values.numel() == 0) return;
    const auto samples = static_cast<int64_t>(sample_ids.size()), elements = values.numel() / samples;
    for (const int64_t id : sample_ids) check_noise_range(mask.key, static_cast<uint64_t>(id) * static_cast<uint64_t>(elements), elements);
    const c10::cuda::CUDAGuard device(values.device());
    const cudaError_t error =
        cuda::drop(c10::cuda::getCurrentCUDAStream(), values.data_ptr(), element_type(values), elements, mask, sample_ids);
    if (error != cudaSuccess) fail_run("[dropout] {} does not run it: {}", values.device().str(), cudaGetErrorString(error));
  }
};

}  // namespace
}  // namespace zerostep

const zerostep::DeviceKernels& zerostep_cuda_model_kernels_1() {
  static const zerostep::Kernels kernels;
  return kernels;
}
