#pragma once
#include <cstdint>

#include "base/cuda/kernel_queue.h"
#include "base/dtype.h"

namespace zerostep::cuda {

// Rows [count, columns] to be added to those of a table that indices [count] name; `order` sorts them, so that equal ones are neighbours in
// the order of the rows, and `sorted` are the indices in it.
struct TableRows {
  const void* rows;
  DType rows_type;
  int64_t count, columns;
  const int64_t *sorted, *order;
  void* table;
  DType table_type;  // fp32, or the rows' type
};

// Elements of scratch memory for the sums of runs of equal indices that several segments share.
int64_t table_scratch_elements(int64_t count, int64_t columns);

// table[indices[i]] += rows[i]: the fp32 sum of the rows of each index, rounded once. Queued; returns what kept it from being queued.
cudaError_t add_table_rows(const KernelQueue& queue, const TableRows& rows, float* scratch);

}  // namespace zerostep::cuda
