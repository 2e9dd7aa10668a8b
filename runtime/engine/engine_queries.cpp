#include <cmath>

#include "base/not_a_number.h"
#include "runtime/engine/engine.h"
#include "runtime/strategy/projected_gradients.h"

// What the ranks agree on in a step with queries.

namespace zerostep {

bool Engine::agree_on_losses(StepRun& run) {
  const TimeInto time(host_timers_.scalars);
  StepResult& result = run.result;
  scalars_.read(compute_);
  const auto values = scalars_.values(ScalarBlock::Part::QuerySums);
  std::vector<ZerothOrder::Sums> sums(values.size() / 3);
  static_assert(sizeof(ZerothOrder::Sums) == 3 * sizeof(double));
  std::copy(values.begin(), values.end(), &sums.front().plus);
  queries_->reset();
  world_.all_reduce_scalars({&sums.front().plus, 3 * sums.size()}, ReduceOp::Sum, "losses of the queries");
  agree_on_maxima(run.stop, result);
  const ProjectedGradients found = projected_gradients(config_.step, sums);
  result.scalars = found.scalars;
  result.loss = without_sign_of_nan(found.loss);
  if (!found.finite) skip_reason_ = describe_non_finite(config_.step, sums);
  result.loss_of_pairs = config_.step.estimator == StepConfig::Estimator::Central;
  if (run.kind.backprop) return found.finite;
  result.grad_norm =
      without_sign_of_nan(expected_norm(transform_scalars(config_.step.transform, found.scalars), plan_.layout.num_elements(true)));
  result.lr = scalars_of(run.step, false).scheduled.lr;
  result.loss_scale = scaler_.scale();
  return found.finite;
}

void Engine::agree_on_estimate(StepRun& run) {
  const TimeInto time(host_timers_.update);
  compute_.synchronize();
  StepResult& result = run.result;
  const bool by_gradient = run.kind.update == StepKind::Update::Gradient;
  run.estimate = std::make_unique<Estimate>(directions_, run.step, transform_scalars(config_.step.transform, result.scalars),
                                            config_.step.blend, unscale_);
  if (run.kind.backprop) {
    const EstimateMeasures measures = measure_with_gradient(*run.estimate, directions_, owned_gradients(), adder());
    result.cosine = measures.cosine;
    if (!by_gradient) result.grad_norm = measures.norm;
  } else if (config_.step.exact_norm) {
    result.grad_norm = measure_norm(*run.estimate, directions_, owned_gradients(), adder());
  }
  if (run.step == 0) measure_unchanged(run.step, result);
  if (by_gradient) run.estimate.reset();
  settle_update(run);
}

AddOverRanks Engine::adder() {
  return [this](std::span<double> values, const char* what) { world_.all_reduce_scalars(values, ReduceOp::Sum, what); };
}

void Engine::agree_on_instruction(StepRun& run) {
  const TimeInto time(host_timers_.scalars);
  compute_.synchronize();
  const double squares = std::pow(run.result.grad_norm / unscale_, 2);
  instruction_ = find_instruction(instruct_schedule_.now(), directions_, run.step, owned_gradients(), squares,
                                  plan_.layout.num_elements(true), adder());
  directions_.instruct(instruction_ ? &*instruction_ : nullptr);
}

void Engine::measure_unchanged(int64_t step, StepResult& result) {
  double counts[kUnchangedScalars] = {0, 0};  // unchanged, all
  for (const FlatGroup& g : plan_.layout.groups) {
    if (!g.trainable || !is_16bit(g.compute_type)) continue;
    for (const ShardedState::Piece& piece : state_.pieces(g.id)) {
      PerturbedPiece values;
      values.base = state_.parameters(g.id, piece);
      values.base_type = g.type;
      values.target_type = g.compute_type;
      values.count = piece.count;
      counts[0] += static_cast<double>(
          directions_.count_unchanged(step, 0, plan_.layout.parameter(g, piece.parameter), piece.parameter_offset, values));
      counts[1] += static_cast<double>(piece.count);
    }
  }
  if (!is_16bit(config_.precision.compute)) return;
  world_.all_reduce_scalars(counts, ReduceOp::Sum, "weights that epsilon leaves unchanged");
  if (counts[1] > 0) result.unchanged_share = counts[0] / counts[1];
}

}  // namespace zerostep
