#include "models/cuda/cuda_model_kernels.h"

#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "base/error.h"
#include "models/cuda/cross_entropy.h"
#include "models/cuda/dropout.h"
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

// Calls queue(RowsQueue) for LibTorch's current stream of the tensor's device.
template <class QueueKernels>
void run(const char* kernel, const at::Tensor& values, const QueueKernels& queue_kernels) {
  const c10::cuda::CUDAGuard device(values.device());
  int processors = 0;
  cudaError_t error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, values.device().index());
  // Several rounds of blocks end more evenly than one.
  if (error == cudaSuccess)
    error = queue_kernels(cuda::RowsQueue{c10::cuda::getCurrentCUDAStream(), static_cast<unsigned>(processors) * 32});
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
        [&](const cuda::RowsQueue& queue) { return cuda::drop(queue, values.data_ptr(), type, elements, mask, sample_ids); });
  }
  void add_logits(const LogitsPart& part, const at::Tensor& statistics) const override {
    const cuda::LogitsPart given = checked(part, statistics);
    run(kCrossEntropy, part.logits,
        [&](const cuda::RowsQueue& queue) { return cuda::add_logits(queue, given, statistics.data_ptr<float>()); });
  }
  void sum_losses(const at::Tensor& statistics, const at::Tensor& labels, const at::Tensor& total) const override {
    run(kCrossEntropy, statistics, [&](const cuda::RowsQueue& queue) {
      return cuda::sum_losses(queue, statistics.const_data_ptr<float>(), labels.const_data_ptr<int64_t>(), labels.numel(),
                              total.data_ptr<double>());
    });
  }
  void logits_gradient(const LogitsPart& part, const at::Tensor& statistics, const at::Tensor& factor,
                       const at::Tensor& gradient) const override {
    const cuda::LogitsPart given = checked(part, statistics);
    if (gradient.sizes() != part.logits.sizes() || gradient.scalar_type() != part.logits.scalar_type() || !gradient.is_contiguous())
      fail_protocol("[{}] expected a contiguous gradient of the logits' shape and type", kCrossEntropy);
    run(kCrossEntropy, part.logits, [&](const cuda::RowsQueue& queue) {
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
    run("table's rows", rows, [&](const cuda::RowsQueue& queue) { return cuda::add_table_rows(queue, given, scratch.data_ptr<float>()); });
  }

 private:
  static constexpr const char* kCrossEntropy = "cross-entropy";

  static cuda::LogitsPart checked(const LogitsPart& part, const at::Tensor& statistics) {
    const at::Tensor& logits = part.logits;
    if (logits.dim() != 2 || !logits.is_contiguous() || !part.labels.is_contiguous() || part.labels.numel() != logits.size(0) ||
        !statistics.is_contiguous() || statistics.numel() != 3 * logits.size(0))
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

const zerostep::DeviceKernels& zerostep_cuda_model_kernels_2() {
  static const zerostep::Kernels kernels;
  return kernels;
}
