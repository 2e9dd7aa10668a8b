#include "models/product.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>

#include "base/nth.h"
#include "models/kernel_rows.h"

namespace zerostep {

namespace {

constexpr int64_t kColumnsOfAThread = 128;  // fewer make poor products
constexpr int64_t kAlignedColumns = 64;
constexpr int64_t kWorkOfAThread = int64_t{1} << 21;  // multiply-adds

int64_t threads_here() { return at::in_parallel_region() ? 1 : at::get_num_threads(); }

// Columns for each thread; all of them: not divided here.
int64_t columns_of_a_thread(const at::Tensor& rows, const at::Tensor& matrix) {
  const int64_t columns = matrix.size(1), threads = threads_here();
  const int64_t each = (columns / kAlignedColumns + threads - 1) / threads * kAlignedColumns;
  const bool divided = has_kernels(rows) && rows.scalar_type() == at::kFloat && each >= kColumnsOfAThread &&
                       columns / threads >= kColumnsOfAThread && rows.size(0) * rows.size(1) * each >= kWorkOfAThread;
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

// A part of a perturbed matrix for two branches, which a core's second-level cache holds with the rows that it multiplies.
constexpr int64_t kTileIn = 384, kTileOut = 256;

// Columns of a tile: every thread gets as many tiles as the others.
int64_t columns_of_a_tile(int64_t out) {
  const int64_t threads = threads_here(), tiles = ((out + kTileOut - 1) / kTileOut + threads - 1) / threads * threads;
  const int64_t columns = (out + tiles - 1) / tiles;
  return std::min(out, (columns + kAlignedColumns - 1) / kAlignedColumns * kAlignedColumns);
}

// multiply_tiles() on a device that divides a product by itself: as wide a part of the matrix as may be is written for all branches, then
// multiplied.
void multiply_parts(const TiledProduct& p, const at::Tensor& rows, const at::Tensor& y, bool add) {
  const at::NoGradGuard no_grad;
  const int64_t n = rows.size(0) / p.branches;
  const int64_t width = std::min(p.out, std::max<int64_t>(1, kPartElements / (p.branches * p.in) / kAlignedColumns) * kAlignedColumns);
  const at::Tensor scratch = at::empty({p.branches, p.in * width}, rows.options());
  std::array<float*, kMostTiledBranches> targets{};
  for (int64_t b = 0; b < p.branches; ++b) nth(targets, b) = scratch[b].data_ptr<float>();
  for (int64_t column = 0; column < p.out; column += width) {
    const int64_t columns = std::min(width, p.out - column);
    using Part = PerturbedMatrix::Part;
    p.matrix.write(p.transposed ? Part{column, columns, 0, p.in} : Part{0, p.in, column, columns}, targets.data());
    for (int64_t b = 0; b < p.branches; ++b) {
      const at::Tensor written = scratch[b].narrow(0, 0, p.in * columns);
      const at::Tensor part = p.transposed ? written.view({columns, p.in}).t() : written.view({p.in, columns});
      y.narrow(0, b * n, n).narrow(1, column, columns).addmm_(rows.narrow(0, b * n, n), part, add ? 1 : 0);
    }
  }
}

}  // namespace

int64_t tile_bytes(int64_t in, int64_t out, int64_t branches) {
  return static_cast<int64_t>(sizeof(float)) * threads_here() * branches * std::min(in, kTileIn) * columns_of_a_tile(out);
}

void multiply_tiles(const TiledProduct& p, const at::Tensor& rows, const at::Tensor& y, bool add) {
  if (!has_kernels(rows)) return multiply_parts(p, rows, y, add);
  const int64_t n = rows.size(0) / p.branches, width = columns_of_a_tile(p.out), depth = std::min(p.in, kTileIn);
  const at::Tensor scratch = at::empty({threads_here(), p.branches, depth * width}, rows.options());
  at::parallel_for(0, (p.out + width - 1) / width, 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode no_graph;
    const at::Tensor tiles = scratch[at::get_thread_num()];
    std::array<float*, kMostTiledBranches> targets{};
    for (int64_t b = 0; b < p.branches; ++b) nth(targets, b) = tiles[b].data_ptr<float>();
    for (int64_t column = begin * width; column < std::min(end * width, p.out); column += width) {
      const int64_t columns = std::min(width, p.out - column);
      for (int64_t k = 0; k < p.in; k += depth) {
        const int64_t sum = std::min(depth, p.in - k);
        using Part = PerturbedMatrix::Part;
        p.matrix.write(p.transposed ? Part{column, columns, k, sum} : Part{k, sum, column, columns}, targets.data());
        for (int64_t b = 0; b < p.branches; ++b) {
          const at::Tensor tile = tiles[b].narrow(0, 0, sum * columns);
          const at::Tensor part = p.transposed ? tile.view({columns, sum}).t() : tile.view({sum, columns});
          y.narrow(0, b * n, n).narrow(1, column, columns).addmm_(rows.narrow(0, b * n, n).narrow(1, k, sum), part, add || k > 0 ? 1 : 0);
        }
      }
    }
  });
}

at::Tensor product(const at::Tensor& rows, const at::Tensor& matrix) {
  at::Tensor y = at::empty({rows.size(0), matrix.size(1)}, rows.options().requires_grad(false));
  for_columns(y, rows, matrix, [&](at::Tensor part, const at::Tensor& columns) { at::mm_out(part, rows, columns); });
  return y;
}

void add_product_(const at::Tensor& y, const at::Tensor& rows, const at::Tensor& matrix) {
  for_columns(y, rows, matrix, [&](const at::Tensor& part, const at::Tensor& columns) { part.addmm_(rows, columns); });
}

}  // namespace zerostep
