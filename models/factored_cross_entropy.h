#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "base/dtype.h"
#include "models/activation_cost.h"

namespace zerostep {

// The cross-entropy of logits that are never there: of rows [..., width] times matrix' [width, vocabulary], whose columns are worked out
// and let go part by part. Every part has a multiple of 64 columns, as many as make about `logits_together` logits over all rows, and 64
// where that is more.
struct LogitFactors {
  at::Tensor rows, matrix;  // [..., width] and [vocabulary, width], of one type: fp32, bf16 or fp16
};
inline constexpr int64_t kLogitsTogether = int64_t{1} << 28;

// Sum over the labels [...] that are not -100, as an fp64 scalar without a graph.
at::Tensor factored_cross_entropy(const LogitFactors& factors, const at::Tensor& labels, int64_t logits_together);
// The same as an fp32 scalar with a graph. The backward works the logits out again but for the last part, whose memory serves all; it
// writes the matrix's gradient where ParameterGradient says, and adds up that of 16-bit rows in fp32.
at::Tensor factored_cross_entropy_sum(const LogitFactors& factors, const at::Tensor& labels, int64_t logits_together);

// What it holds on a device with kernels (device_kernels.h), beside rows and matrix.
ActivationCost factored_cross_entropy_cost(int64_t num_rows, int64_t width, int64_t vocabulary, DType type, int64_t logits_together);

}  // namespace zerostep
