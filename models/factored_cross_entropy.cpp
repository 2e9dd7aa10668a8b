#include "models/factored_cross_entropy.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include <algorithm>

#include "base/error.h"
#include "models/affine.h"
#include "models/autograd_node.h"
#include "models/cost_parts.h"
#include "models/cross_entropy.h"
#include "models/cross_entropy_math.h"
#include "models/gradient_kernels.h"

namespace zerostep {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// The columns of the vocabulary, divided into parts of one size but for the last, which may be smaller.
class Parts {
 public:
  Parts(int64_t num_rows, int64_t vocabulary, int64_t logits_together) : vocabulary_(vocabulary), columns_(vocabulary) {
    constexpr int64_t kMultiple = 64;
    const auto rounded_up = [](int64_t columns) { return (columns + kMultiple - 1) / kMultiple * kMultiple; };
    const int64_t most = std::max(kMultiple, logits_together / std::max<int64_t>(1, num_rows) / kMultiple * kMultiple);
    const int64_t parts = (vocabulary + most - 1) / most;
    if (parts > 1) columns_ = rounded_up((vocabulary + parts - 1) / parts);
  }
  int64_t count() const { return (vocabulary_ + columns_ - 1) / columns_; }
  int64_t most_columns() const { return columns_; }
  int64_t first(int64_t part) const { return part * columns_; }
  int64_t columns(int64_t part) const { return std::min(columns_, vocabulary_ - first(part)); }

 private:
  int64_t vocabulary_, columns_;
};

// What forward and backward share: the logits of one part at a time, in memory that serves all of them.
struct LogitsInParts {
  at::Tensor rows, matrix, labels, memory;
  Parts parts;

  // `used_memory`: of an earlier one, or undefined.
  LogitsInParts(const LogitFactors& f, const at::Tensor& given_labels, int64_t logits_together, const at::Tensor& used_memory = {})
      : rows(rows_of(f.rows.detach()).contiguous()),
        matrix(f.matrix.detach()),
        labels(given_labels.reshape(-1).contiguous()),
        memory(used_memory),
        parts(rows.size(0), matrix.size(0), logits_together) {
    if (labels.numel() != rows.size(0) || matrix.size(1) != rows.size(1))
      fail_protocol("[cross-entropy] {} rows of {} do not fit {} labels and a matrix of {} x {}", rows.size(0), rows.size(1),
                    labels.numel(), matrix.size(0), matrix.size(1));
    if (!memory.defined()) memory = at::empty({rows.size(0) * parts.most_columns()}, rows.options());
  }

  at::Tensor matrix_of(int64_t part) const { return matrix.narrow(0, parts.first(part), parts.columns(part)); }
  // With what the memory holds.
  LogitsPart logits(int64_t part) const {
    const int64_t columns = parts.columns(part);
    return {memory.narrow(0, 0, rows.size(0) * columns).view({rows.size(0), columns}), labels, parts.first(part)};
  }
  LogitsPart work_out(int64_t part) const {
    LogitsPart out = logits(part);
    at::mm_out(out.logits, rows, matrix_of(part).t());
    return out;
  }
  at::Tensor add_all() const {
    const at::Tensor statistics = logit_statistics(rows);
    for (int64_t part = 0; part < parts.count(); ++part) add_logits(work_out(part), statistics);
    return statistics;
  }
};

// The sum over parts of a product, fp32 until it is whole.
class RowsGradient {
 public:
  void add(const at::Tensor& logits_gradient, const at::Tensor& matrix, bool is_only) {
    if (is_only || (!sums_.defined() && matrix.scalar_type() == at::kFloat)) {
      sums_ = at::mm(logits_gradient, matrix);
    } else if (matrix.scalar_type() == at::kFloat) {
      sums_.addmm_(logits_gradient, matrix);
    } else {
      const bool is_first = !sums_.defined();
      if (is_first) sums_ = at::empty({logits_gradient.size(0), matrix.size(1)}, matrix.options().dtype(at::kFloat));
      convert_into(at::mm(logits_gradient, matrix), sums_, !is_first);
    }
  }
  at::Tensor whole(at::ScalarType type) const { return sums_.to(type); }

 private:
  at::Tensor sums_;
};

struct FactoredLoss : Function<FactoredLoss> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows, const at::Tensor& matrix, const at::Tensor& labels,
                            int64_t logits_together) {
    const LogitsInParts all({rows, matrix}, labels, logits_together);
    const at::Tensor statistics = all.add_all();
    context->save_for_backward({rows, matrix, labels, statistics, all.memory});
    keep(context, logits_together);
    return sum_losses(statistics, all.labels).to(at::kFloat);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const LogitsInParts all({saved[0], saved[1]}, saved[2], kept<int64_t>(context), saved[4]);
    ParameterGradient matrix(saved[1]);
    RowsGradient rows;
    const int64_t last = all.parts.count() - 1;
    for (int64_t part = last; part >= 0; --part) {
      const LogitsPart of_part = part == last ? all.logits(part) : all.work_out(part);
      logits_gradient(of_part, saved[3], gradients[0], of_part.logits);
      matrix.product_of_rows(of_part.logits.t(), all.rows, of_part.first);
      if (saved[0].requires_grad()) rows.add(of_part.logits, all.matrix_of(part), last == 0);
    }
    // A graph that is kept cannot be run again.
    saved[4].unsafeGetTensorImpl()->bump_version();
    const at::Tensor of_rows = saved[0].requires_grad() ? rows.whole(saved[0].scalar_type()).view(saved[0].sizes()) : at::Tensor();
    return gradients_of({of_rows}, {matrix}, 2);
  }
};

}  // namespace

at::Tensor factored_cross_entropy(const LogitFactors& factors, const at::Tensor& labels, int64_t logits_together) {
  const at::NoGradGuard no_grad;
  const LogitsInParts all(factors, labels, logits_together);
  return sum_losses(all.add_all(), all.labels);
}

at::Tensor factored_cross_entropy_sum(const LogitFactors& f, const at::Tensor& labels, int64_t logits_together) {
  if (!records(f.rows, f.matrix)) return factored_cross_entropy(f, labels, logits_together).to(at::kFloat);
  return FactoredLoss::apply(f.rows, f.matrix, labels, logits_together);
}

ActivationCost factored_cross_entropy_cost(int64_t num_rows, int64_t width, int64_t vocabulary, DType type, int64_t logits_together) {
  const Parts parts(num_rows, vocabulary, logits_together);
  const int64_t memory = num_bytes(num_rows * parts.most_columns(), type),
                statistics = num_bytes(num_rows * LogitStatistic::kNumber, DType::F32);
  const int64_t rows = num_bytes(num_rows * width, type), sums = num_bytes(num_rows * width, DType::F32);
  ActivationCost cost;
  cost.output_bytes = 4;
  cost.saved_bytes = memory + statistics;
  cost.inference_transient_bytes = cost.inference_product_bytes = memory + statistics;
  const auto backward = [&](bool accumulating) {
    MemoryTimeline m;
    const bool has_sums = is_16bit(type) && parts.count() > 1;
    for (int64_t part = parts.count(); part-- > 0;) {  // as the backward goes
      m.write(num_rows * parts.columns(part) * static_cast<int64_t>(size_of(type)));
      m.pass(gradient_temporary(type, parts.columns(part), width, accumulating));
      if (part == parts.count() - 1) m.take(has_sums ? sums : rows);
      if (has_sums) m.pass(rows);
    }
    return has_sums ? m.take(rows) : m;
  };
  set_backward(cost, backward);
  // It is not told whether gradients are fresh.
  cost.backward_transient_bytes = cost.accumulating_backward_transient_bytes;
  cost.forward_work = {statistics * parts.count(), 2 * parts.count() + 1};
  // The logits of the last part are still there.
  cost.repeated_flops =
      2.0 * static_cast<double>(num_rows) * static_cast<double>(width) * static_cast<double>(vocabulary - parts.columns(parts.count() - 1));
  return cost;
}

}  // namespace zerostep
