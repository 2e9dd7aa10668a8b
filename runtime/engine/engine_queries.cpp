#include <algorithm>
#include <cmath>

#include "base/not_a_number.h"
#include "offload/host_optimizer.h"
#include "runtime/engine/engine.h"
#include "runtime/strategy/block_sums.h"
#include "runtime/strategy/projected_gradients.h"

// The forward-only part of a step, and the update by gradient, estimate or both.

namespace zerostep {

bool Engine::agree_on_losses(StepRun& run) {
  const TimeInto time(timers_.scalars);
  StepResult& result = run.result;
  std::vector<ZerothOrder::Sums> sums = queries_->sums();
  queries_->reset();
  static_assert(sizeof(ZerothOrder::Sums) == 3 * sizeof(double));
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
  const TimeInto time(timers_.update);
  StepResult& result = run.result;
  const bool by_gradient = run.kind.update == StepKind::Update::Gradient;
  run.estimate.emplace(directions_, run.step, transform_scalars(config_.step.transform, result.scalars), config_.step.blend, unscale_);
  if (run.kind.backprop) {
    const double norm = measure_cosine(*run.estimate, result);
    if (!by_gradient) result.grad_norm = norm;
  } else if (config_.step.exact_norm) {
    result.grad_norm = measure_norm(*run.estimate);
  }
  if (run.step == 0) measure_unchanged(run.step, result);
  if (by_gradient) run.estimate.reset();
  settle_update(run);
}

// Once everything that the update's scalars depend on is agreed on.
void Engine::settle_update(StepRun& run) {
  run.scalars = scalars_of(run.step, run.kind.backprop);
  run.result.clip_scale = clipped(run.result.grad_norm);
  const bool by_gradient = run.kind.update == StepKind::Update::Gradient;
  run.scalars.gradient_scale = static_cast<float>(by_gradient ? unscale_ * run.result.clip_scale : run.result.clip_scale);
}

void Engine::replay(const LoggedStep& logged) {
  if (logged.skipped) return;
  StepRun run{.step = logged.step};
  run.estimate.emplace(directions_, logged.step, transform_scalars(config_.step.transform, logged.scalars));
  run.scalars = scalars_of(logged.step, false);
  run.scalars.scheduled.lr = logged.lr;
  run.scalars.gradient_scale = static_cast<float>(logged.clip_scale);
  execute(plan_.train, run, plan_.train.agreement + 1);
  count_applied(false);
}

void Engine::count_applied(bool gradient) {
  ++applied_steps_;
  ++applied_of_kind_[gradient ? 1 : 0];
}

// Calls use(parameter, first element in it, count, reduced gradient; nullptr where gradients have no memory) for everything trained that
// this rank owns.
template <typename Use>
void Engine::for_each_gradient(const Use& use) {
  for (const FlatGroup& g : plan_.layout.groups) {
    if (!g.trainable) continue;
    const ShardedState::Group& state = state_.group(g.id);
    for (const FlatLayout::Piece& piece : state_.owned(g.id)) {
      const ParameterInfo& parameter = plan_.layout.units[static_cast<size_t>(g.unit)]
                                           .parameters[static_cast<size_t>(g.parameters[static_cast<size_t>(piece.parameter)])];
      use(parameter, piece.parameter_offset, piece.count,
          state.gradients == nullptr ? nullptr : state.gradients + (state.gradients_whole ? piece.full_offset : piece.shard_offset));
    }
  }
}

void Engine::agree_on_instruction(StepRun& run) {
  const TimeInto time(timers_.scalars);
  const StepConfig::Instruct config = instruct_schedule_.now();
  const double squares = std::pow(run.result.grad_norm / unscale_, 2);
  if (squares == 0) return;  // no gradient, nothing to instruct with: the directions stay random
  float threshold = 0;
  if (config.energy) {
    EnergyHistogram coarse;
    for_each_gradient([&](const ParameterInfo&, int64_t, int64_t count, const float* g) { coarse.add(g, count); });
    world_.all_reduce_scalars(coarse.energy(), ReduceOp::Sum, "histogram of the gradient");
    double above = 0;
    const double wanted = config.cosine * config.cosine * squares;
    EnergyHistogram fine(coarse.find(wanted, above));
    for_each_gradient([&](const ParameterInfo&, int64_t, int64_t count, const float* g) { fine.add(g, count); });
    world_.all_reduce_scalars(fine.energy(), ReduceOp::Sum, "histogram of the gradient");
    threshold = fine.magnitude_of(fine.find(wanted, above));
  }
  instruction_ = Instruction{config.energy, threshold, {}, {}, {}};
  // <z, g> and <z, z> of each direction, and the energy kept.
  std::vector<double> sums(static_cast<size_t>(2 * config_.step.queries + 1), 0.0);
  for_each_gradient([&](const ParameterInfo& parameter, int64_t first, int64_t count, const float* g) {
    add_instruction_sums(directions_, instruction_, run.step, parameter, first, count, g, sums);
  });
  world_.all_reduce_scalars(sums, ReduceOp::Sum, "instruction");
  std::vector<InstructionSums> of_direction;
  for (int64_t d = 0; d < config_.step.queries; ++d)
    of_direction.push_back({sums[static_cast<size_t>(2 * d)], sums[static_cast<size_t>(2 * d + 1)]});
  instruction_ = make_instruction(config, of_direction, squares, sums.back(), threshold, plan_.layout.num_elements(true));
  directions_.instruct(&instruction_);
}

// Returns the norm of the estimate.
double Engine::measure_cosine(GradientSource& estimate, StepResult& result) {
  double sums[kCosineScalars] = {0, 0, 0};  // <g, e>, <g, g>, <e, e> over the elements that this rank owns
  for_each_gradient([&](const ParameterInfo& parameter, int64_t first, int64_t count, const float* gradient) {
    estimate.prepare(parameter);
    add_block_sums(count, sums, [&](int64_t begin, int64_t n, std::span<double> partial) {
      std::vector<float> values(static_cast<size_t>(n));
      const float* g = gradient + begin;
      estimate.read(first + begin, n, g, values.data());
      for (int64_t i = 0; i < n; ++i) partial[0] += static_cast<double>(g[i]) * static_cast<double>(values[static_cast<size_t>(i)]);
      partial[1] += sum_of_squares(g, n);
      partial[2] += sum_of_squares(values.data(), n);
    });
  });
  world_.all_reduce_scalars(sums, ReduceOp::Sum, "cosine");
  if (sums[1] > 0 && sums[2] > 0) result.cosine = sums[0] / std::sqrt(sums[1] * sums[2]);
  return std::sqrt(sums[2]);
}

// Of a forward-only step's estimate, from what each rank owns.
double Engine::measure_norm(GradientSource& estimate) {
  double squares = 0;
  for_each_gradient([&](const ParameterInfo& parameter, int64_t first, int64_t count, const float*) {
    estimate.prepare(parameter);
    add_block_sums(count, {&squares, 1}, [&](int64_t begin, int64_t n, std::span<double> partial) {
      std::vector<float> values(static_cast<size_t>(n));
      estimate.read(first + begin, n, nullptr, values.data());
      partial[0] += sum_of_squares(values.data(), n);
    });
  });
  world_.all_reduce_scalars({&squares, 1}, ReduceOp::Sum, "norm of the estimate");
  return std::sqrt(squares);
}

void Engine::measure_unchanged(int64_t step, StepResult& result) {
  double counts[kUnchangedScalars] = {0, 0};  // unchanged, all
  for (const FlatGroup& g : plan_.layout.groups) {
    if (!g.trainable || !is_16bit(g.compute_type)) continue;
    for (const ShardedState::Piece& piece : state_.pieces(g.id)) {
      PerturbSlice slice;
      slice.base = state_.parameters_at(g.id, piece);
      slice.base_type = g.type;
      slice.target_type = g.compute_type;
      slice.count = piece.count;
      counts[0] += static_cast<double>(
          directions_.count_unchanged(step, 0,
                                      plan_.layout.units[static_cast<size_t>(g.unit)]
                                          .parameters[static_cast<size_t>(g.parameters[static_cast<size_t>(piece.parameter)])],
                                      piece.parameter_offset, slice));
      counts[1] += static_cast<double>(piece.count);
    }
  }
  if (!is_16bit(config_.precision.compute)) return;
  world_.all_reduce_scalars(counts, ReduceOp::Sum, "weights that epsilon leaves unchanged");
  if (counts[1] > 0) result.unchanged_share = counts[0] / counts[1];
}

}  // namespace zerostep
