#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace zerostep {

// The cross-entropy of rows of logits that may come in parts, in fp32, by a kernel of the device (models/device_kernels.h), or by
// LibTorch's operations where it has none. Labels are [n] int64, -100 is ignored.

// Logits [n, columns], contiguous, of columns [first, first + columns) of the vocabulary.
struct LogitsOfRows {
  at::Tensor logits, labels;
  int64_t first = 0;
};

// What the parts tell about each of the `rows` [n, ...], which add_logits() makes, beginning with column 0.
at::Tensor logit_statistics(const at::Tensor& rows);
void add_logits(const LogitsOfRows& part, const at::Tensor& statistics);
// fp64 scalar: the sum over the rows that are not ignored.
at::Tensor sum_losses(const at::Tensor& statistics, const at::Tensor& labels);
// gradient [n, columns], of the logits' type, which may be the logits themselves, becomes the loss's times factor, an fp32 scalar.
void logits_gradient(const LogitsOfRows& part, const at::Tensor& statistics, const at::Tensor& factor, const at::Tensor& gradient);

}  // namespace zerostep
