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
  void layer_norm(const at::Tensor& rows, const at::Tensor& gain, const at::Tensor& offset, double epsilon, const at::Tensor& out,
                  const at::Tensor& mean, const at::Tensor& rstd) const override {
    run([&](const DeviceKernels& gpu) {
      gpu.layer_norm(there(rows), there(gain), there(offset), epsilon, there(out), there(mean), there(rstd));
    });
  }
  void layer_norm_backward(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& mean, const at::Tensor& rstd,
                           const at::Tensor& gain, const at::Tensor& out, const at::Tensor& sums) const override {
    run([&](const DeviceKernels& gpu) {
      gpu.layer_norm_backward(there(gradient), there(rows), there(mean), there(rstd), there(gain), there(out), there(sums));
    });
  }
  void rms_norm(const at::Tensor& rows, const at::Tensor& gain, double epsilon, const at::Tensor& out) const override {
    run([&](const DeviceKernels& gpu) { gpu.rms_norm(there(rows), there(gain), epsilon, there(out)); });
  }
  void rms_norm_backward(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& gain, double epsilon,
                         const at::Tensor& gain_gradient) const override {
    run([&](const DeviceKernels& gpu) { gpu.rms_norm_backward(there(gradient), there(rows), there(gain), epsilon, there(gain_gradient)); });
  }
  void swiglu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out) const override {
    run([&](const DeviceKernels& gpu) { gpu.swiglu(there(gate), there(up), there(out)); });
  }
  void swiglu_backward(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient) const override {
    run([&](const DeviceKernels& gpu) { gpu.swiglu_backward(there(gate), there(up), there(gradient)); });
  }
  void rotate(const at::Tensor& rows, const at::Tensor& cosine, const at::Tensor& sine, bool backwards) const override {
    run([&](const DeviceKernels& gpu) { gpu.rotate(there(rows), there(cosine), there(sine), backwards); });
  }
  void branch_project(const at::Tensor& rows, const at::Tensor& factor, const at::Tensor& out) const override {
    run([&](const DeviceKernels& gpu) { gpu.branch_project(there(rows), there(factor), there(out)); });
  }
  void branch_sum(const BranchSum& sum, int64_t branches, const at::Tensor& out) const override {
    const BranchSum given{there(sum.base), there(sum.offset), there(sum.coefficients), there(sum.factor)};
    run([&](const DeviceKernels& gpu) { gpu.branch_sum(given, branches, there(out)); });
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
