#include "models/cuda/cuda_model_kernels.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>

#include "base/error.h"
#include "models/cross_entropy_math.h"
#include "models/cuda/activations.h"
#include "models/cuda/branches.h"
#include "models/cuda/cross_entropy.h"
#include "models/cuda/dropout.h"
#include "models/cuda/norms.h"
#include "models/cuda/table_rows.h"

namespace zerostep {
namespace {

DType element_type(const char* kernel, const at::Tensor& values) {
  switch (values.scalar_type()) {
    case at::kFloat:
      return DType::F32;
    case at::kBFloat16:
      return DType::BF16;
    case at::kHalf:
      return DType::F16;
    default:
      fail_protocol("[{}] expected values of fp32, bf16 or fp16", kernel);
  }
}

// Calls queue(KernelQueue) for LibTorch's current stream of the tensor's device.
template <class QueueKernels>
void run(const char* kernel, const at::Tensor& values, const QueueKernels& queue_kernels) {
  const c10::cuda::CUDAGuard device(values.device());
  cuda::KernelQueue queue{c10::cuda::getCurrentCUDAStream()};
  cudaError_t error = cuda::find_max_blocks(values.device().index(), queue.max_blocks);
  if (error == cudaSuccess) error = queue_kernels(queue);
  if (error != cudaSuccess) fail_run("[{}] {} does not run it: {}", kernel, values.device().str(), cudaGetErrorString(error));
}

class Kernels final : public DeviceKernels {
 public:
  void drop(const at::Tensor& values, const DropoutMask& mask, std::span<const int64_t> sample_ids) const override {
    if (values.numel() == 0) return;
    const auto samples = static_cast<int64_t>(sample_ids.size()), elements = values.numel() / samples;
    for (const int64_t id : sample_ids) check_noise_range(mask.key, static_cast<uint64_t>(id) * static_cast<uint64_t>(elements), elements);
    const DType type = element_type("dropout", values);
    run("dropout", values,
        [&](const cuda::KernelQueue& queue) { return cuda::drop(queue, values.data_ptr(), type, elements, mask, sample_ids); });
  }
  void add_logits(const LogitsPart& part, const at::Tensor& statistics) const override {
    const cuda::LogitsPart given = checked(part, statistics);
    run(kCrossEntropy, part.logits,
        [&](const cuda::KernelQueue& queue) { return cuda::add_logits(queue, given, statistics.data_ptr<float>()); });
  }
  void sum_losses(const at::Tensor& statistics, const at::Tensor& labels, const at::Tensor& total) const override {
    run(kCrossEntropy, statistics, [&](const cuda::KernelQueue& queue) {
      return cuda::sum_losses(queue, statistics.const_data_ptr<float>(), labels.const_data_ptr<int64_t>(), labels.numel(),
                              total.data_ptr<double>());
    });
  }
  void logits_gradient(const LogitsPart& part, const at::Tensor& statistics, const at::Tensor& factor,
                       const at::Tensor& gradient) const override {
    const cuda::LogitsPart given = checked(part, statistics);
    if (gradient.sizes() != part.logits.sizes() || gradient.scalar_type() != part.logits.scalar_type() || !gradient.is_contiguous())
      fail_protocol("[{}] expected a contiguous gradient of the logits' shape and type", kCrossEntropy);
    run(kCrossEntropy, part.logits, [&](const cuda::KernelQueue& queue) {
      return cuda::logits_gradient(queue, given, statistics.const_data_ptr<float>(), factor.const_data_ptr<float>(), gradient.data_ptr());
    });
  }
  void add_rows(const at::Tensor& table, const at::Tensor& sorted, const at::Tensor& order, const at::Tensor& rows) const override {
    const int64_t count = rows.size(0), columns = rows.size(1);
    if (count == 0) return;
    const cuda::TableRows given{rows.const_data_ptr(),
                                element_type("table's rows", rows),
                                count,
                                columns,
                                sorted.const_data_ptr<int64_t>(),
                                order.const_data_ptr<int64_t>(),
                                table.data_ptr(),
                                element_type("table's rows", table)};
    const at::Tensor scratch = at::empty({cuda::table_scratch_elements(count, columns)}, rows.options().dtype(at::kFloat));
    run("table's rows", rows,
        [&](const cuda::KernelQueue& queue) { return cuda::add_table_rows(queue, given, scratch.data_ptr<float>()); });
  }
  void layer_norm(const at::Tensor& rows, const at::Tensor& gain, const at::Tensor& offset, double epsilon, const at::Tensor& out,
                  const at::Tensor& mean, const at::Tensor& rstd) const override {
    run("layer norm", rows, [&](const cuda::KernelQueue& queue) {
      return cuda::layer_norm(queue, norm_rows(rows, gain, offset, epsilon), out.data_ptr(), floats(mean), floats(rstd));
    });
  }
  void layer_norm_backward(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& mean, const at::Tensor& rstd,
                           const at::Tensor& gain, const at::Tensor& out, const at::Tensor& sums) const override {
    const at::Tensor partial = sums.defined() ? partial_sums(rows, 2 * rows.size(1)) : at::Tensor();
    run("layer norm", rows, [&](const cuda::KernelQueue& queue) {
      return cuda::layer_norm_backward(queue, norm_rows(rows, gain, {}, 0), gradient.const_data_ptr(), floats(mean), floats(rstd),
                                       out.defined() ? out.data_ptr() : nullptr, floats(partial));
    });
    if (sums.defined()) add_up(partial, sums);
  }
  void rms_norm(const at::Tensor& rows, const at::Tensor& gain, double epsilon, const at::Tensor& out) const override {
    run("rms norm", rows,
        [&](const cuda::KernelQueue& queue) { return cuda::rms_norm(queue, norm_rows(rows, gain, {}, epsilon), out.data_ptr()); });
  }
  void rms_norm_backward(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& gain, double epsilon,
                         const at::Tensor& gain_gradient) const override {
    const at::Tensor partial = gain_gradient.defined() ? partial_sums(rows, rows.size(1)) : at::Tensor();
    run("rms norm", rows, [&](const cuda::KernelQueue& queue) {
      return cuda::rms_norm_backward(queue, norm_rows(rows, gain, {}, epsilon), gradient.data_ptr(), floats(partial));
    });
    if (gain_gradient.defined()) add_up(partial, gain_gradient);
  }
  void swiglu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& out) const override {
    run("swiglu", gate, [&](const cuda::KernelQueue& queue) {
      return cuda::swiglu(queue, element_type("swiglu", gate), gate.const_data_ptr(), up.const_data_ptr(), out.data_ptr(), gate.numel());
    });
  }
  void swiglu_backward(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient) const override {
    run("swiglu", gate, [&](const cuda::KernelQueue& queue) {
      return cuda::swiglu_backward(queue, element_type("swiglu", gate), gate.data_ptr(), up.data_ptr(), gradient.data_ptr(), gate.numel());
    });
  }
  void rotate(const at::Tensor& rows, const at::Tensor& cosine, const at::Tensor& sine, bool backwards) const override {
    const int64_t half = cosine.size(1);
    const cuda::RotatedRows given{
        rows.data_ptr(), element_type("rotary", rows), rows.size(0), rows.size(1) / (2 * half), half, cosine.size(0), floats(cosine),
        floats(sine),    backwards ? -1.0f : 1.0f};
    run("rotary", rows, [&](const cuda::KernelQueue& queue) { return cuda::rotate(queue, given); });
  }
  void branch_project(const at::Tensor& rows, const at::Tensor& factor, const at::Tensor& out) const override {
    run("branch project", rows, [&](const cuda::KernelQueue& queue) {
      return cuda::branch_project(queue, branch_rows(rows, factor, factor.size(0)), rows.const_data_ptr(), out.data_ptr<float>());
    });
  }
  void branch_sum(const BranchSum& sum, int64_t branches, const at::Tensor& out) const override {
    const cuda::BranchTerms terms{sum.base.defined() ? sum.base.const_data_ptr() : nullptr, sum.base.defined() ? sum.base.size(0) : 1,
                                  floats(sum.offset), sum.offset.defined() ? stride_of(sum.offset) : 0, floats(sum.coefficients)};
    run("branch sum", out, [&](const cuda::KernelQueue& queue) {
      return cuda::branch_sum(queue, branch_rows(out, sum.factor, branches), terms, out.data_ptr());
    });
  }

 private:
  static float* floats(const at::Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }
  // From one branch's vector [branches or 1, width] to the next one's.
  static int64_t stride_of(const at::Tensor& vectors) { return vectors.numel() > vectors.size(-1) ? vectors.size(-1) : 0; }
  static cuda::NormRows norm_rows(const at::Tensor& rows, const at::Tensor& gain, const at::Tensor& offset, double epsilon) {
    const int64_t count = rows.size(0), width = rows.size(1);
    const int64_t branches = std::max(gain.numel(), offset.defined() ? offset.numel() : 0) / std::max<int64_t>(1, width);
    return {rows.const_data_ptr(),
            element_type("norm", rows),
            count,
            width,
            count / std::max<int64_t>(1, branches),
            floats(gain),
            stride_of(gain),
            floats(offset),
            offset.defined() ? stride_of(offset) : 0,
            static_cast<float>(epsilon)};
  }
  static cuda::BranchRows branch_rows(const at::Tensor& rows, const at::Tensor& factor, int64_t branches) {
    return {element_type("branches", rows),        rows.size(0),  rows.size(1), rows.size(0) / branches,
            factor.defined() ? factor.size(1) : 0, floats(factor)};
  }
  static at::Tensor partial_sums(const at::Tensor& rows, int64_t columns) {
    return at::empty({cuda::norm_groups(rows.size(0)), columns}, rows.options().dtype(at::kFloat).requires_grad(false));
  }
  static void add_up(const at::Tensor& partial, const at::Tensor& sums) {
    at::Tensor out = sums.view(-1);
    at::sum_out(out, partial, {0});
  }

  static constexpr const char* kCrossEntropy = "cross-entropy";

  static cuda::LogitsPart checked(const LogitsPart& part, const at::Tensor& statistics) {
    const at::Tensor& logits = part.logits;
    if (logits.dim() != 2 || !logits.is_contiguous() || !part.labels.is_contiguous() || part.labels.numel() != logits.size(0) ||
        !statistics.is_contiguous() || statistics.numel() != LogitStatistic::kNumber * logits.size(0))
      fail_protocol("[{}] expected contiguous rows of logits, and a label and statistics for each of them", kCrossEntropy);
    return {logits.const_data_ptr(),
            element_type(kCrossEntropy, logits),
            part.labels.const_data_ptr<int64_t>(),
            logits.size(0),
            logits.size(1),
            part.first};
  }
};

}  // namespace
}  // namespace zerostep

const zerostep::DeviceKernels& zerostep_cuda_model_kernels_3() {
  static const zerostep::Kernels kernels;
  return kernels;
}
