#pragma once
#include <ATen/core/Tensor.h>

#include "models/branches.h"

namespace zerostep {

// rows [n, in] times matrix [in, out], without a graph. Where each of LibTorch's threads gets columns enough, it makes a product of its
// own from them: such products share nothing while they run. Otherwise LibTorch divides the work.
at::Tensor product(const at::Tensor& rows, const at::Tensor& matrix);
// y [n, out] += rows times matrix.
void add_product_(const at::Tensor& y, const at::Tensor& rows, const at::Tensor& matrix);

// y [branches * n, out] = start + rows [branches * n, in] times each branch's form of a matrix, fp32, contiguous, branch-major; start is
// what y holds (`add`) or zero. The matrix is [in, out], transposed: [out, in]. On the CPU each thread has a part of the matrix written for
// all branches and multiplies it at once. Parts of the sum over `in` are added in order; they depend on the shape alone.
struct TiledProduct {
  const PerturbedMatrix& matrix;
  int64_t in, out;
  int64_t branches;
  bool transposed = false;
};
void multiply_tiles(const TiledProduct& product, const at::Tensor& rows, const at::Tensor& y, bool add);
// What multiply_tiles() takes of LibTorch's allocator on the CPU while it runs, with the threads that there are now.
int64_t tile_bytes(int64_t in, int64_t out, int64_t branches);

}  // namespace zerostep
