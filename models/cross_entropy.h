#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace zerostep {

// The cross-entropy of rows of logits that may come in parts, in fp32, by a kernel of the device (models/device_kernels.h), or by
// LibTorch's operations where it has none.

// A part has `columns` of the vocabulary, [first, first + columns).
struct LogitsPart {
  at::Tensor logits;  // [n, columns], contiguous, fp32, bf16 or fp16
  at::Tensor labels;  // [n] int64, contiguous; -100 is ignored, another one that no logit has leaves a loss that is not a number
  int64_t first = 0;
};

// What the parts tell of each of the `rows` [n, ...]: fp32 [n, 3], to which add_logits() adds what each part has; the first one, of column
// 0, overwrites.
at::Tensor logit_statistics(const at::Tensor& rows);
void add_logits(const LogitsPart& part, const at::Tensor& statistics);
// fp64 scalar: the sum over the rows that are not ignored, in an order of n alone.
at::Tensor sum_losses(const at::Tensor& statistics, const at::Tensor& labels);
// gradient [n, columns], of the logits' type, which may be the logits themselves, becomes the loss's times factor, an fp32 scalar.
void logits_gradient(const LogitsPart& part, const at::Tensor& statistics, const at::Tensor& factor, const at::Tensor& gradient);

}  // namespace zerostep
