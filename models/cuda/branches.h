#pragma once
#include <cstdint>

#include "base/cuda/kernel_queue.h"
#include "base/dtype.h"

namespace zerostep::cuda {

// Rows [count, width], branch-major, `rows_each` of each branch, whose factor is [rank, width].
struct BranchRows {
  DType type;
  int64_t count, width, rows_each, rank;
  const float* factor;  // [branches, rank, width]
};
// out [count, rank]: rows times their branch's factor transposed. Queued; returns what kept it from being queued.
cudaError_t branch_project(const KernelQueue& queue, const BranchRows& rows, const void* values, float* out);

// out [count, width] becomes base + offset + coefficients [count, rank] factor. nullptr: zero; a stride of 0: all branches have one offset.
struct BranchTerms {
  const void* base;  // [base_rows, width], which all branches share where there are fewer than count
  int64_t base_rows;
  const float* offset;
  int64_t offset_stride;
  const float* coefficients;
};
cudaError_t branch_sum(const KernelQueue& queue, const BranchRows& rows, const BranchTerms& terms, void* out);

}  // namespace zerostep::cuda
