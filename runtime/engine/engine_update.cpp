#include <fmt/format.h>

#include "base/error.h"
#include "runtime/engine/engine.h"
#include "runtime/strategy/projected_gradients.h"

// The update that a step leaves: made, applied, repeated from a log.

namespace zerostep {

// Makes the pending update. Called once all that its scalars depend on is agreed on.
void Engine::settle_update(StepRun& run) {
  PendingUpdate update{scalars_of(run.step, run.kind.backprop), std::move(run.estimate)};
  run.result.clip_scale = clipped(run.result.grad_norm);
  const bool by_gradient = run.kind.update == StepKind::Update::Gradient;
  if (update.estimate) update.scalars.gradient = update.estimate->gradient();
  update.scalars.gradient_scale = static_cast<float>(by_gradient ? unscale_ * run.result.clip_scale : run.result.clip_scale);
  pending_ = std::make_shared<PendingUpdate>(std::move(update));
}

void Engine::flush() {
  if (has_lost_update_) fail_run("rank {}: a failure came while an update was applied; the parameters are of no step", world_.rank());
  if (!pending_) return;
  const MeterScope meter = metered();
  execute(plan_.update, std::make_shared<StepRun>());
  pending_ = nullptr;
}

void Engine::replay(const LoggedStep& logged) {
  if (logged.skipped) return;
  guarded(fmt::format("update of step {}", logged.step), [&] {
    flush();
    pending_ = std::make_shared<PendingUpdate>();
    pending_->estimate = std::make_unique<Estimate>(directions_, logged.step, transform_scalars(config_.step.transform, logged.scalars));
    pending_->scalars = scalars_of(logged.step, false);
    pending_->scalars.scheduled.lr = logged.lr;
    pending_->scalars.gradient = pending_->estimate->gradient();
    pending_->scalars.gradient_scale = static_cast<float>(logged.clip_scale);
    flush();
    ++applied_.estimate_steps;
  });
}

std::vector<OwnedGradient> Engine::owned_gradients() const {
  std::vector<OwnedGradient> out;
  for (const FlatGroup& g : plan_.layout.groups) {
    if (!g.trainable) continue;
    for (const ShardedState::Piece& piece : state_.owned(g.id))
      out.push_back({&plan_.layout.parameter(g, piece.parameter), piece.parameter_offset, piece.count,
                     state_.has_gradients(g.id) ? state_.gradients(g.id, piece) : nullptr});
  }
  return out;
}

}  // namespace zerostep
