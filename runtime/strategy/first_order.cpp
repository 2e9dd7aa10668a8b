#include "runtime/strategy/first_order.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <torch/csrc/autograd/autograd.h>

#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "models/backward_in_caller.h"

namespace zerostep {
namespace {

// What a unit is told: of the last one what the objective takes.
ForwardContext forward_context(const VisitContext& context, const Objective& objective) {
  ForwardContext out = context.forward;
  out.takes_factors = context.last_unit && objective.takes_factors();
  return out;
}

}  // namespace

FirstOrder::FirstOrder(const Objective& objective, int num_units, int64_t recompute_segments, int first_trainable)
    : objective_(objective), num_units_(num_units), first_trainable_(first_trainable), segments_(recompute_segments), inputs_(num_units) {
  outputs_.resize(static_cast<size_t>(num_units));
}

std::vector<Visit> FirstOrder::visits(int micro_batches) const {
  return first_order_visits(num_units_, micro_batches, segments_, first_trainable_);
}

void FirstOrder::begin_step(double seed) {
  reset();
  seed_ = seed;
}

void FirstOrder::reset() {
  hidden_.clear();
  inputs_.clear();
  for (auto& list : outputs_) list.clear();
  gradient_.clear();
  loss_ = at::Tensor();
}

void FirstOrder::visit(const VisitContext& context) {
  const int unit = context.visit.unit;
  switch (context.visit.kind) {
    case VisitKind::Forward:
      return forward(context, true);
    case VisitKind::ForwardOnly:
      if (context.visit.keep_input) inputs_.put(unit, hidden_);
      return forward(context, false);
    case VisitKind::Recompute:
      if (inputs_.holds(unit)) hidden_ = inputs_.take(unit);  // the first of its segment
      return forward(context, true);
    case VisitKind::Backward:
      return backward(context);
  }
}

void FirstOrder::forward(const VisitContext& context, bool record) {
  if (!record) {
    const at::NoGradGuard no_grad;
    hidden_ = context.unit.forward(hidden_, forward_context(context, objective_));
    if (context.last_unit) context.sums.add_(objective_.sum(context.batch, hidden_));
    return;
  }
  TensorList in;
  for (const at::Tensor& h : hidden_) in.push_back(context.visit.unit > first_trainable_ ? h.detach().requires_grad_() : h.detach());
  hidden_.clear();
  TensorList out = context.unit.forward(in, forward_context(context, objective_));
  if (context.last_unit) {
    loss_ = objective_.sum(context.batch, out);
    context.sums.add_(loss_.detach());
    out.clear();  // the loss's graph holds what it needs of it
  } else {
    for (const at::Tensor& h : out) hidden_.push_back(h.detach());
  }
  inputs_.put(context.visit.unit, std::move(in));
  nth(outputs_, context.visit.unit) = std::move(out);
}

void FirstOrder::backward(const VisitContext& context) {
  const BackwardInCaller here;
  hidden_.clear();
  if (context.last_unit) {
    if (!loss_.defined()) fail_protocol("[first order] backward of the last unit without a loss");
    at::Tensor loss = std::move(loss_);
    loss_ = at::Tensor();
    loss.backward(at::full({}, seed_, loss.options()));
  } else {
    // The lists are emptied before autograd runs, so that it frees each tensor as soon as it is done with it.
    std::vector<at::Tensor> roots = std::exchange(nth(outputs_, context.visit.unit), {}), gradients = std::exchange(gradient_, {});
    torch::autograd::backward(roots, gradients);
  }
  gradient_.clear();
  for (const at::Tensor& in : inputs_.take(context.visit.unit))
    if (in.requires_grad()) gradient_.push_back(std::exchange(in.mutable_grad(), at::Tensor()));
}

std::vector<Visit> Evaluate::visits(int) const { return evaluation_visits(num_units_); }

void Evaluate::begin_step(double) { hidden_.clear(); }

void Evaluate::visit(const VisitContext& context) {
  const at::NoGradGuard no_grad;
  hidden_ = context.unit.forward(hidden_, forward_context(context, objective_));
  if (!context.last_unit) return;
  if (context.sums.defined()) context.sums.add_(objective_.sum(context.batch, hidden_));
  if (observer_) observer_(context.batch, hidden_);
  hidden_.clear();
}

}  // namespace zerostep
