#include "models/objective.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/error.h"
#include "models/cross_entropy.h"
#include "models/cross_entropy_math.h"
#include "models/device_kernels.h"

namespace zerostep {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows go through in chunks of about this many logits, which stay in the cache and keep the temporaries small.
constexpr int64_t kChunkElements = 1 << 18;

int64_t rows_per_chunk(int64_t vocabulary) { return std::max<int64_t>(1, kChunkElements / vocabulary); }

// Calls body(logits [n, V], labels [n, 1] with 0 where ignored, valid [n, 1], first row).
template <typename Body>
void for_each_chunk(const at::Tensor& logits, const at::Tensor& labels, const Body& body) {
  const int64_t vocabulary = logits.size(-1), step = rows_per_chunk(vocabulary);
  const at::Tensor rows = logits.reshape({-1, vocabulary}), targets = labels.reshape({-1, 1});
  for (int64_t first = 0; first < rows.size(0); first += step) {
    const int64_t count = std::min(step, rows.size(0) - first);
    const at::Tensor chunk_labels = targets.narrow(0, first, count), ignored = chunk_labels.eq(kIgnoredLabel);
    body(rows.narrow(0, first, count), chunk_labels.masked_fill(ignored, 0), ignored.logical_not(), first);
  }
}

const at::Tensor& checked(Labelled labelled, const Batch& batch, const TensorList& outputs) {
  const at::Tensor& logits = outputs.at(0);
  if (labelled == Labelled::Samples) {
    if (logits.dim() != 2 || batch.labels.dim() != 2 || batch.labels.size(1) != 1 || logits.size(0) != batch.labels.size(0)) {
      fail_protocol("[objective] expected logits [{}, classes] and a label for each sample, found {} dimensions of {} elements",
                    batch.labels.size(0), logits.dim(), logits.numel());
    }
    return logits;
  }
  if (logits.dim() != 3 || logits.size(0) != batch.labels.size(0) || logits.size(1) != batch.labels.size(1)) {
    fail_protocol("[objective] expected logits [{}, {}, vocabulary], found {} dimensions of {} elements", batch.labels.size(0),
                  batch.labels.size(1), logits.dim(), logits.numel());
  }
  return logits;
}

// All logits as one part, which the kernels of a device take at once.
LogitsPart rows_of_logits(const at::Tensor& logits, const at::Tensor& labels) {
  return {logits.reshape({-1, logits.size(-1)}).contiguous(), labels.reshape(-1).contiguous()};
}

// `statistics` becomes what the backward needs of them, where the device has kernels.
at::Tensor negative_log_likelihood(const at::Tensor& logits, const at::Tensor& labels, at::Tensor* statistics = nullptr) {
  if (device_kernels_of(logits) != nullptr) {
    const at::NoGradGuard no_grad;
    const LogitsPart rows = rows_of_logits(logits, labels);
    const at::Tensor found = logit_statistics(rows.logits);
    add_logits(rows, found);
    if (statistics != nullptr) *statistics = found;
    return sum_losses(found, rows.labels);
  }
  at::Tensor total = at::zeros({}, logits.options().dtype(at::kDouble).requires_grad(false));
  for_each_chunk(logits, labels, [&](const at::Tensor& chunk, const at::Tensor& targets, const at::Tensor& valid, int64_t) {
    const at::Tensor log_probabilities = at::log_softmax(chunk, -1, at::kFloat).gather(1, targets);
    total.sub_(at::where(valid, log_probabilities, 0.0).sum(at::kDouble));
  });
  return total;
}

// Keeps nothing but the logits and, of a device with kernels, three numbers a row: the backward works out the probabilities again, straight
// into the logits' gradient.
struct CrossEntropyFunction : torch::autograd::Function<CrossEntropyFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& logits, const at::Tensor& labels) {
    at::Tensor statistics;
    const at::Tensor total = negative_log_likelihood(logits, labels, &statistics);
    context->save_for_backward({logits, labels, statistics});
    return total.to(at::kFloat);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    at::Tensor gradient = at::empty_like(saved[0], at::MemoryFormat::Contiguous);
    const at::Tensor rows = gradient.view({-1, gradient.size(-1)});
    if (saved[2].defined()) {
      logits_gradient(rows_of_logits(saved[0], saved[1]), saved[2], gradients[0], rows);
      return {gradient, {}};
    }
    for_each_chunk(saved[0], saved[1], [&](const at::Tensor& chunk, const at::Tensor& targets, const at::Tensor& valid, int64_t first) {
      at::Tensor to = rows.narrow(0, first, chunk.size(0)), p = to;
      if (to.scalar_type() == at::kFloat) {
        at::_softmax_out(to, chunk, -1, false);
      } else {
        p = at::softmax(chunk, -1, at::kFloat);
      }
      const at::Tensor weight = valid.to(at::kFloat).mul_(gradients[0]);
      p.mul_(weight).scatter_add_(1, targets, weight.neg());
      if (!p.is_same(to)) to.copy_(p);
    });
    return {gradient, {}};
  }
};

class CrossEntropy : public Objective {
 public:
  explicit CrossEntropy(Labelled labelled) : labelled_(labelled) {}
  at::Tensor sum(const Batch& batch, const TensorList& outputs) const override {
    const at::Tensor& logits = checked(labelled_, batch, outputs);
    if (!at::GradMode::is_enabled() || !logits.requires_grad()) return negative_log_likelihood(logits, batch.labels).to(at::kFloat);
    return CrossEntropyFunction::apply(logits, batch.labels);
  }
  at::Tensor value(const Batch& batch, const TensorList& outputs) const override {
    return negative_log_likelihood(checked(labelled_, batch, outputs), batch.labels);
  }
  const char* name() const override { return "cross_entropy"; }
  ActivationCost activation_cost(const ActivationShape& shape, int64_t vocabulary) const override {
    const DType compute_type = shape.compute_type;
    const int64_t tokens = labelled_ == Labelled::Samples ? shape.batch : shape.batch * shape.sequence;
    const int64_t rows = std::min(tokens, rows_per_chunk(vocabulary));
    const int64_t chunk = 4 * rows * vocabulary, logits = num_bytes(tokens * vocabulary, compute_type);
    // Beside a chunk's probabilities: flags, targets, weights.
    const int64_t vectors = rows * (8 + 1 + 1 + 4 + 4);
    ActivationCost cost;
    cost.output_bytes = 4;
    cost.forward_transient_bytes = (is_16bit(compute_type) ? 2 : 1) * chunk + vectors;
    cost.inference_transient_bytes = cost.forward_transient_bytes;
    cost.backward_transient_bytes = logits + (is_16bit(compute_type) ? 2 * chunk : 0) + vectors;
    cost.accumulating_backward_transient_bytes = cost.backward_transient_bytes;
    // Log-probabilities; probabilities, weighed, and in 16 bit cast.
    const int64_t chunks = (tokens + rows_per_chunk(vocabulary) - 1) / rows_per_chunk(vocabulary), values = 4 * tokens * vocabulary;
    cost.forward_work = {(is_16bit(compute_type) ? 2 : 1) * values, 8 * chunks};
    cost.backward_work = {2 * values + (is_16bit(compute_type) ? logits : 0), 8 * chunks};
    if (shape.backend == Backend::Cuda) {
      // What the kernels tell of each row, of which the backward makes the logits' gradient at once.
      cost.saved_bytes = num_bytes(tokens * LogitStatistic::kNumber, DType::F32);
      cost.forward_transient_bytes = cost.inference_transient_bytes = cost.saved_bytes;
      cost.backward_transient_bytes = cost.accumulating_backward_transient_bytes = logits;
    }
    return cost;
  }

 private:
  Labelled labelled_;
};

class FactoredCrossEntropy final : public CrossEntropy {
 public:
  explicit FactoredCrossEntropy(int64_t logits_together) : CrossEntropy(Labelled::Tokens), logits_together_(logits_together) {}
  at::Tensor sum(const Batch& batch, const TensorList& outputs) const override {
    if (outputs.size() == 1) return CrossEntropy::sum(batch, outputs);
    return factored_cross_entropy_sum({outputs[0], outputs.at(1)}, batch.labels, logits_together_);
  }
  at::Tensor value(const Batch& batch, const TensorList& outputs) const override {
    if (outputs.size() == 1) return CrossEntropy::value(batch, outputs);
    return factored_cross_entropy({outputs[0], outputs.at(1)}, batch.labels, logits_together_);
  }
  bool takes_factors() const override { return true; }
  ActivationCost factors_cost(int64_t tokens, int64_t width, int64_t vocabulary, DType compute_type) const override {
    return factored_cross_entropy_cost(tokens, width, vocabulary, compute_type, logits_together_);
  }

 private:
  int64_t logits_together_;
};

class Accuracy final : public Objective {
 public:
  explicit Accuracy(Labelled labelled) : labelled_(labelled) {}
  at::Tensor sum(const Batch& batch, const TensorList& outputs) const override { return value(batch, outputs).to(at::kFloat); }
  at::Tensor value(const Batch& batch, const TensorList& outputs) const override {
    const at::NoGradGuard no_grad;
    return checked(labelled_, batch, outputs).argmax(-1).view_as(batch.labels).eq_(batch.labels).sum().to(at::kDouble).neg_();
  }
  const char* name() const override { return "accuracy"; }
  ActivationCost activation_cost(const ActivationShape& shape, int64_t) const override {
    ActivationCost cost;
    cost.output_bytes = 4;
    cost.inference_transient_bytes = shape.batch * (labelled_ == Labelled::Samples ? 1 : shape.sequence) * 8;  // predictions
    cost.forward_transient_bytes = cost.backward_transient_bytes = cost.accumulating_backward_transient_bytes =
        cost.inference_transient_bytes;
    cost.forward_work = {cost.inference_transient_bytes, 5};
    return cost;
  }

 private:
  Labelled labelled_;
};

}  // namespace

std::unique_ptr<Objective> make_cross_entropy(Labelled labelled) { return std::make_unique<CrossEntropy>(labelled); }
std::unique_ptr<Objective> make_factored_cross_entropy(int64_t logits_together) {
  return std::make_unique<FactoredCrossEntropy>(logits_together);
}
std::unique_ptr<Objective> make_accuracy(Labelled labelled) { return std::make_unique<Accuracy>(labelled); }

}  // namespace zerostep
