#pragma once
#include <ATen/core/Tensor.h>

namespace zerostep {

// RMSNorm (arXiv 1910.07467): each row x becomes gain x / sqrt(mean(x^2) + epsilon). Rows [n, width] are contiguous, fp32, bf16 or fp16;
// arithmetic is fp32, rounded once. Nothing records a graph. LibTorch's threads are used.

// gain [width], or fp32 [branches, width]: rows are branch-major then, and each branch has its own.
at::Tensor rms_norm(const at::Tensor& rows, const at::Tensor& gain, double epsilon);

// `gradient` [n, width] of what rms_norm gives for `rows` becomes that of `rows`. gain_gradient, fp32 [width], is overwritten where it is
// defined: sums over blocks of rows in a fixed order, on the CPU whatever the number of threads.
void rms_norm_backward_(const at::Tensor& gradient, const at::Tensor& rows, const at::Tensor& gain, double epsilon,
                        const at::Tensor& gain_gradient);

// Bytes that rms_norm_backward_ takes for a while on the CPU where it sums the gain's gradient.
int64_t rms_norm_backward_bytes(int64_t num_rows, int64_t width);

}  // namespace zerostep
