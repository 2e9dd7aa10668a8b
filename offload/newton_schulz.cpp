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

constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
static_assert(kNewtonSchulzSteps % 2 == 1);  // the last iteration ends where the first values lay

}  // namespace

int64_t newton_schulz_scratch(int64_t rows, int64_t columns) {
  const int64_t small = std::min(rows, columns);
  return rows * columns + 2 * small * small;
}

void newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch) {
  const at::NoGradGuard no_grad;
  const int64_t elements = rows * columns;
  at::Tensor divided = at::from_blob(scratch, {elements});
  at::mul_out(divided, at::from_blob(matrix, {elements}),
              at::Scalar(1 / (std::sqrt(sum_of_squares(matrix, elements)) + kNewtonSchulzEpsilon)));
  iterate_newton_schulz(matrix, rows, columns, scratch, c10::kCPU);
}

void iterate_newton_schulz(float* matrix, int64_t rows, int64_t columns, float* scratch, c10::Device device) {
  const at::NoGradGuard no_grad;
  const int64_t small = std::min(rows, columns), elements = rows * columns;
  const auto tensor = [&](float* data, int64_t height, int64_t width) {
    const auto options = at::TensorOptions(at::kFloat).device(device);
    return at::for_blob(data, {height, width}).options(options).target_device(device).make_tensor();
  };
  at::Tensor to = tensor(matrix, rows, columns), from = tensor(scratch, rows, columns);
  at::Tensor gram = tensor(scratch + elements, small, small), polynomial = tensor(scratch + elements + small * small, small, small);
  for (int i = 0; i < kNewtonSchulzSteps; ++i) {
    const bool wide = rows <= columns;
    wide ? at::mm_out(gram, from, from.t()) : at::mm_out(gram, from.t(), from);
    at::addmm_out(polynomial, gram, gram, gram, kB, kC);
    wide ? at::addmm_out(to, from, polynomial, from, kA, 1) : at::addmm_out(to, from, from, polynomial, kA, 1);
    std::swap(from, to);
  }
}

}  // namespace zerostep
