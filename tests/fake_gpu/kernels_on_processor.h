#pragma once
#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>

#include "fake_gpu/fake_gpu.h"
#include "models/device_kernels.h"
#include "models/kernel_rows.h"

namespace zerostep {

// The kernels of a GPU over memory of the processor, where the fake GPU's host bodies may work as well: a processor without kernels of its
// own then does the same arithmetic as the fake GPU, so that everything else is compared bit by bit. What the kernels compute is tested by
// itself (model_kernels_test.cpp).
class KernelsOnProcessor final : public DeviceKernels {
 public:
  void drop(const at::Tensor& values, const DropoutMask& mask, std::span<const int64_t> sample_ids) const override {
    run([&](const DeviceKernels& gpu) { gpu.drop(there(values), mask, sample_ids); });
  }
  void add_logits(const LogitsPart& part, const at::Tensor& statistics) const override {
    run([&](const DeviceKernels& gpu) { gpu.add_logits({there(part.logits), there(part.labels), part.first}, there(statistics)); });
  }
  void sum_losses(const at::Tensor& statistics, const at::Tensor& labels, const at::Tensor& total) const override {
    run([&](const DeviceKernels& gpu) { gpu.sum_losses(there(statistics), there(labels), there(total)); });
  }
  void logits_gradient(const LogitsPart& part, const at::Tensor& statistics, const at::Tensor& factor,
                       const at::Tensor& gradient) const override {
    run([&](const DeviceKernels& gpu) {
      gpu.logits_gradient({there(part.logits), there(part.labels), part.first}, there(statistics), there(factor), there(gradient));
    });
  }
  void add_rows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order, const at::Tensor& rows) const override {
    run([&](const DeviceKernels& gpu) { gpu.add_rows(there(table), there(sorted), there(order), there(rows)); });
  }

 private:
  // The same memory as a tensor of the GPU.
  static at::Tensor there(const at::Tensor& t) {
    if (!t.defined()) return t;
    const at::Device gpu(at::kCUDA, 0);
    const auto options = at::TensorOptions().dtype(t.dtype()).device(gpu);
    return at::for_blob(t.data_ptr(), t.sizes()).strides(t.strides()).options(options).target_device(gpu).make_tensor();
  }
  template <class Use>
  static void run(const Use& use) {
    use(*device_kernels(at::kCUDA));
    const fake_gpu::StandIn done(c10::cuda::getCurrentCUDAStream(0));  // waits, which counts as no wait of the host
  }
};

// While it lives, tensors of the processor go the way of a GPU, its kernels included.
class AsOnGpu {
 public:
  AsOnGpu() { set_device_kernels(at::kCPU, &kernels_); }
  ~AsOnGpu() { set_device_kernels(at::kCPU, nullptr); }
  AsOnGpu(const AsOnGpu&) = delete;
  AsOnGpu& operator=(const AsOnGpu&) = delete;

 private:
  WithoutKernels without_;
  KernelsOnProcessor kernels_;
};

}  // namespace zerostep
