#include "models/cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/where.h>

#include <limits>

#include "models/cross_entropy_math.h"
#include "models/device_kernels.h"
#include "models/kernel_rows.h"

namespace zerostep {

namespace {

// Calls f(logits of some rows as fp32, their labels' places among the columns, their statistics, first row, number).
template <class F>
void for_rows(const LogitsPart& part, const at::Tensor& statistics, const F& f) {
  const at::NoGradGuard no_grad;
  for_parts(part.logits.size(0), part.logits.size(1), [&](int64_t first, int64_t count) {
    f(part.logits.narrow(0, first, count).to(at::kFloat), part.labels.narrow(0, first, count) - part.first,
      statistics.narrow(0, first, count), first, count);
  });
}

void add_by_operations(const LogitsPart& part, const at::Tensor& statistics) {
  const int64_t columns = part.logits.size(1);
  for_rows(part, statistics, [&](const at::Tensor& x, const at::Tensor& places, const at::Tensor& of_rows, int64_t, int64_t) {
    at::Tensor largest = of_rows.select(1, LogitStatistic::kLargest), sum = of_rows.select(1, LogitStatistic::kSum),
               label = of_rows.select(1, LogitStatistic::kLabel);
    const at::Tensor before = part.first > 0 ? largest.clone() : at::Tensor();
    const at::Tensor here = x.amax({1}), above = part.first > 0 ? at::maximum(here, before) : here;
    const at::Tensor added = (x - above.unsqueeze(1)).exp_().sum(at::IntArrayRef{1});
    sum.copy_(part.first > 0 ? at::exp(before - above).mul_(sum).add_(added) : added);
    largest.copy_(above);
    const at::Tensor picked = x.gather(1, places.clamp(0, columns - 1).unsqueeze(1)).squeeze(1);
    if (part.first == 0) label.fill_(std::numeric_limits<float>::quiet_NaN()).masked_fill_(places.eq(kIgnoredLabel), 0);
    label.copy_(at::where(places.ge(0).logical_and_(places.lt(columns)), picked, label));
  });
}

void gradient_by_operations(const LogitsPart& part, const at::Tensor& statistics, const at::Tensor& factor, const at::Tensor& gradient) {
  const int64_t columns = part.logits.size(1);
  for_rows(part, statistics, [&](const at::Tensor& x, const at::Tensor& places, const at::Tensor& of_rows, int64_t first, int64_t count) {
    at::Tensor p = (x - of_rows.narrow(1, LogitStatistic::kLargest, 1)).exp_().mul_(factor / of_rows.narrow(1, LogitStatistic::kSum, 1));
    const at::Tensor is_here = places.ge(0).logical_and_(places.lt(columns)).unsqueeze(1);
    p.scatter_add_(1, places.clamp(0, columns - 1).unsqueeze(1), is_here.to(at::kFloat).mul_(factor.neg()));
    p.masked_fill_(places.eq(kIgnoredLabel - part.first).unsqueeze(1), 0);
    gradient.narrow(0, first, count).copy_(p);
  });
}

}  // namespace

at::Tensor logit_statistics(const at::Tensor& rows) {
  return at::empty({rows.size(0), LogitStatistic::kNumber}, rows.options().dtype(at::kFloat).requires_grad(false));
}

void add_logits(const LogitsPart& part, const at::Tensor& statistics) {
  if (const DeviceKernels* kernels = device_kernels_of(part.logits)) return kernels->add_logits(part, statistics);
  add_by_operations(part, statistics);
}

at::Tensor sum_losses(const at::Tensor& statistics, const at::Tensor& labels) {
  if (const DeviceKernels* kernels = device_kernels_of(statistics)) {
    const at::Tensor total = at::empty({}, statistics.options().dtype(at::kDouble));
    kernels->sum_losses(statistics, labels, total);
    return total;
  }
  const at::Tensor values = statistics.to(at::kDouble);
  const at::Tensor losses = values.select(1, LogitStatistic::kSum)
                                .log()
                                .add_(values.select(1, LogitStatistic::kLargest) - values.select(1, LogitStatistic::kLabel));
  return losses.masked_fill_(labels.eq(kIgnoredLabel), 0).sum();
}

void logits_gradient(const LogitsPart& part, const at::Tensor& statistics, const at::Tensor& factor, const at::Tensor& gradient) {
  if (const DeviceKernels* kernels = device_kernels_of(part.logits)) return kernels->logits_gradient(part, statistics, factor, gradient);
  gradient_by_operations(part, statistics, factor, gradient);
}

}  // namespace zerostep
