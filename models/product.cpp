#include "models/product.h"

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace zerostep {

namespace {

constexpr int64_t kColumnsOfAThread = 128;  // fewer make poor products
constexpr int64_t kAlignedColumns = 64;
constexpr int64_t kWorkOfAThread = int64_t{1} << 21;  // multiply-adds

// Columns for each thread; all of them: not divided here.
int64_t columns_of_a_thread(const at::Tensor& rows, const at::Tensor& matrix) {
  const int64_t columns = matrix.size(1), threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t each = (columns / kAlignedColumns + threads - 1) / threads * kAlignedColumns;
  const bool divided = rows.scalar_type() == at::kFloat && each >= kColumnsOfAThread && columns / threads >= kColumnsOfAThread &&
                       rows.size(0) * rows.size(1) * each >= kWorkOfAThread;
  return divided ? each : columns;
}

// Calls f(part of y, columns of the matrix) for each thread's columns.
template <class F>
void for_columns(const at::Tensor& y, const at::Tensor& rows, const at::Tensor& matrix, const F& f) {
  const int64_t columns = matrix.size(1), each = columns_of_a_thread(rows, matrix);
  if (each >= columns) return f(y, matrix);
  at::parallel_for(0, (columns + each - 1) / each, 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode no_graph;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * each, count = std::min(each, columns - first);
      f(y.narrow(1, first, count), matrix.narrow(1, first, count));
    }
  });
}

}  // namespace

at::Tensor product(const at::Tensor& rows, const at::Tensor& matrix) {
  at::Tensor y = at::empty({rows.size(0), matrix.size(1)}, rows.options().requires_grad(false));
  for_columns(y, rows, matrix, [&](at::Tensor part, const at::Tensor& columns) { at::mm_out(part, rows, columns); });
  return y;
}

void add_product_(const at::Tensor& y, const at::Tensor& rows, const at::Tensor& matrix) {
  for_columns(y, rows, matrix, [&](const at::Tensor& part, const at::Tensor& columns) { part.addmm_(rows, columns); });
}

}  // namespace zerostep
