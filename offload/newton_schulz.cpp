#include "offload/newton_schulz.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mul.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "offload/host_optimizer.h"

namespace zerostep {
namespace {

constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315, kEpsilon = 1e-7;
static_assert(kNewtonSchulzSteps % 2 == 1);  // the last iteration ends where the first values lay

}  // namespace

int64_t newton_schulz_scratch(int64_t rows, int64_t columns) {
  const int64_t small = std::min(rows, columns);
  return rows * columns + 2 * small * small;
}

void newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch) {
  const at::NoGradGuard no_grad;
  const int64_t small = std::min(rows, columns), elements = rows * columns;
  at::Tensor to = at::from_blob(matrix, {rows, columns}), from = at::from_blob(scratch, {rows, columns});
  at::Tensor gram = at::from_blob(scratch + elements, {small, small}),
             polynomial = at::from_blob(scratch + elements + small * small, {small, small});
  at::mul_out(from, to, at::Scalar(1 / (std::sqrt(sum_of_squares(matrix, elements)) + kEpsilon)));
  for (int i = 0; i < kNewtonSchulzSteps; ++i) {
    const bool wide = rows <= columns;
    wide ? at::mm_out(gram, from, from.t()) : at::mm_out(gram, from.t(), from);
    at::addmm_out(polynomial, gram, gram, gram, kB, kC);
    wide ? at::addmm_out(to, from, polynomial, from, kA, 1) : at::addmm_out(to, from, from, polynomial, kA, 1);
    std::swap(from, to);
  }
}

}  // namespace zerostep
