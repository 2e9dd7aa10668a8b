#pragma once
#include <ATen/core/Tensor.h>

namespace zerostep {

// Sums of 16-bit gradients into fp32 buffers in one pass, without the fp32 copy that LibTorch would make. Every sum has a fixed order.

// target [m] fp32 (+)= the sum over rows of [n, m], contiguous, fp32, bf16 or fp16.
void sum_rows(const at::Tensor& rows, const at::Tensor& target, bool add);
// target [r, c] fp32 (its rows may be a part of a wider matrix's) (+)= values [r, c], contiguous.
void convert_into(const at::Tensor& values, const at::Tensor& target, bool add);
// table[indices[i]] += rows[i] for i = 0, 1, ...: table [k, m] fp32, indices [n] int64, rows [n, m], all contiguous. A table of the rows'
// 16-bit type gets the fp32 sum of the rows of each index, rounded once.
void add_rows(const at::Tensor& table, const at::Tensor& indices, const at::Tensor& rows);

}  // namespace zerostep
