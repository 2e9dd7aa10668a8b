#pragma once
#include <functional>

#include "models/objective.h"
#include "offload/activation_store.h"
#include "runtime/strategy/strategy.h"

namespace zerostep {

// Backprop with the graph cut at unit boundaries: forward keeps in[i] = detach(out[i-1]) and out[i] = unit[i](in[i]); backward runs each
// unit's own graph from the gradient of its output. Recomputed segments keep only their first input.
class FirstOrder final : public StepStrategy {
 public:
  FirstOrder(const Objective& objective, int num_units, int64_t recompute_segments, int first_trainable);
  std::vector<Visit> visits(int micro_batches) const override;
  void begin_step(double seed) override;
  void visit(const VisitContext& context) override;
  void reset() override;
  // What the plan stores, drops and loads between visits.
  ActivationStore& inputs() { return inputs_; }

 private:
  void forward(const VisitContext& context, bool record);
  void backward(const VisitContext& context);

  const Objective& objective_;
  int num_units_, first_trainable_;
  int64_t segments_;
  double seed_ = 1;
  TensorList hidden_;                // output of the unit visited last
  ActivationStore inputs_;           // between forward, recomputation and backward
  std::vector<TensorList> outputs_;  // per unit, with their graph
  at::Tensor loss_;
  TensorList gradient_;  // of the output of the unit whose backward comes next
};

// Units once, forward only; sums the objective. For evaluation.
class Evaluate final : public StepStrategy {
 public:
  Evaluate(const Objective& objective, int num_units) : objective_(objective), num_units_(num_units) {}
  std::vector<Visit> visits(int micro_batches) const override;
  void begin_step(double seed) override;
  void visit(const VisitContext& context) override;
  void reset() override { hidden_.clear(); }
  // Sees what the last unit gives for each batch.
  using Observer = std::function<void(const Batch& batch, const TensorList& outputs)>;
  void observe(Observer observer) { observer_ = std::move(observer); }

 private:
  const Objective& objective_;
  int num_units_;
  TensorList hidden_;
  Observer observer_;
};

}  // namespace zerostep
