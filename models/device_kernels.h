#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "models/branch_kernels.h"
#include "models/cross_entropy.h"
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

  // cross_entropy.h's; total, an fp64 scalar, is overwritten.
  virtual void add_logits(const LogitsPart& part, const at::Tensor& statistics) const = 0;
  virtual void sum_losses(const at::Tensor& statistics, const at::Tensor& labels, const at::Tensor& total) const = 0;
  virtual void logits_gradient(const LogitsPart& part, const at::Tensor& statistics, const at::Tensor& factor,
                               const at::Tensor& gradient) const = 0;

  // table[indices[i]] += rows[i]: the fp32 sum of the rows of each index, in an order that the indices set, rounded once. table [k, m] fp32
  // or of the rows' type, rows [n, m] fp32, bf16 or fp16, all contiguous. The indices come sorted, with what sorts them stably (at::sort),
  // and have been looked up in the table before: none is outside.
  virtual void add_rows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order, const at::Tensor& rows) const = 0;

  // Norms of rows [branches * n, width], branch-major, contiguous, of fp32, bf16 or fp16, as layer_norm.h, rms_norm.h and branch_kernels.h
  // say; gains and offsets fp32 [branches or 1, width]. Gradients of them, fp32 [width] and [2, width] of gain and offset, are overwritten;
  // an undefined result is not wanted. Sums are fp32, in an order that the shape sets.
  virtual void layer_norm(const at::Tensor& rows, const at::Tensor& gain, const at::Tensor& offset, double epsilon, const at::Tensor& out,
                          const at::Tensor& mean, const at::Tensor& rstd) const = 0;
  virtual void layer_norm_backward(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& mean, const at::Tensor& rstd,
                                   const at::Tensor& gain, const at::Tensor& out, const at::Tensor& sums) const = 0;
  virtual void rms_norm(const at::Tensor& rows, const at::Tensor& gain, double epsilon, const at::Tensor& out) const = 0;
  virtual void rms_norm_backward(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& gain, double epsilon,
                                 const at::Tensor& gain_gradient) const = 0;

  // swiglu.h's and rotary.h's; out may be gate.
  virtual void swiglu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out) const = 0;
  virtual void swiglu_backward(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient) const = 0;
  virtual void rotate(const at::Tensor& rows, const at::Tensor& cosine, const at::Tensor& sine, bool backwards) const = 0;

  // branch_kernels.h's.
  virtual void branch_project(const at::Tensor& rows, const at::Tensor& factor, const at::Tensor& out) const = 0;
  virtual void branch_sum(const BranchSum& sum, int64_t branches, const at::Tensor& out) const = 0;
};

// Those of a type of device; nullptr: none. CUDA's are in libzerostep_cuda.so, which is opened for them: RunError where it cannot be.
const DeviceKernels* device_kernels(at::DeviceType type);
// Those for a tensor where the host has none (kernel_rows.h) and its device has; else nullptr.
const DeviceKernels* device_kernels_of(const at::Tensor& tensor);
// Lets units find `kernels`, which the caller keeps, or nullptr, instead. Not while units run.
void set_device_kernels(at::DeviceType type, const DeviceKernels* kernels);

}  // namespace zerostep
