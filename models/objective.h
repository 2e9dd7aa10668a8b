#pragma once
#include "base/dtype.h"
#include "models/activation_cost.h"
#include "models/batch.h"
#include "models/factored_cross_entropy.h"

namespace zerostep {

// Batch and model output -> a sum and a count. The loss of a step is the sum over the global batch divided by its count.
class Objective {
 public:
  virtual ~Objective() = default;
  // A scalar fp32 tensor: the sum over the micro-batch's valid positions. Differentiable unless the objective says otherwise.
  virtual at::Tensor sum(const Batch& batch, const TensorList& outputs) const = 0;
  // The same as a scalar fp64 tensor, without a graph and without a last rounding to fp32: differences of two of them are what forward-only
  // training lives on.
  virtual at::Tensor value(const Batch& batch, const TensorList& outputs) const = 0;
  virtual int64_t count(const Batch& batch) const { return batch.valid_tokens; }
  virtual const char* name() const = 0;
  // Whether outputs may be the factors of the logits (ForwardContext::takes_factors), and what it costs then for rows of `width`.
  virtual bool takes_factors() const { return false; }
  virtual ActivationCost factors_cost(int64_t /*tokens*/, int64_t /*width*/, int64_t /*vocabulary*/, DType /*compute_type*/) const {
    return {};
  }
  // For the plan: bytes held for backward and extra peak bytes, beyond the logits.
  virtual ActivationCost activation_cost(const ActivationShape& shape, int64_t vocabulary) const = 0;
};

// What has a label: each token (logits [B, T, vocabulary], labels [B, T]), or each sample (logits [B, classes], labels [B, 1]; an
// activation cost is that of `vocabulary` classes, whatever the sequence).
enum class Labelled : uint8_t { Tokens, Samples };

// Cross-entropy in fp32, labels -100 ignored.
std::unique_ptr<Objective> make_cross_entropy(Labelled labelled = Labelled::Tokens);
// The same of tokens, which takes factors of the logits too: they are never there as a whole then (models/factored_cross_entropy.h).
std::unique_ptr<Objective> make_factored_cross_entropy(int64_t logits_together = kLogitsTogether);
// Minus the number of labels that are the likeliest prediction: a step function, which only forward-only training can follow.
std::unique_ptr<Objective> make_accuracy(Labelled labelled = Labelled::Tokens);

}  // namespace zerostep
