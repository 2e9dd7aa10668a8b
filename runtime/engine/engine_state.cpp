#include <fmt/format.h>

#include "runtime/engine/engine.h"

// What of an engine outlives it: its part of the parameters and of the optimizer's state, and the scalars beside.

namespace zerostep {

std::vector<StatePiece> owned_state(const TrainingPlan& plan, int rank) {
  std::vector<StatePiece> out;
  for (const StatePlace& place : state_places(plan.layout, plan.any_step(), rank, Elements::Owned)) out.push_back(place.piece);
  return out;
}

void Engine::copy_state(std::span<std::byte* const> targets) {
  guarded("copying the state", [&] {
    flush();
    access_.copy(targets);
  });
}

void Engine::read_parameter(int unit, int index, std::vector<float>& out) {
  guarded(fmt::format("reading parameter {} of unit {}", index, plan_.layout.unit(unit).name), [&] {
    flush();
    access_.read_parameter(unit, index, out);
  });
}

Engine::Progress Engine::progress() const {
  return {applied_, skipped_in_a_row_, config_.precision.compute, scaler_.state(), instruct_schedule_.state()};
}

void Engine::restore(const Progress& progress, const StateReader& read) {
  guarded("restoring the state", [&] {
    applied_ = progress.applied;
    skipped_in_a_row_ = progress.skipped_in_a_row;
    if (progress.precision == config_.precision.compute) scaler_.restore(progress.loss_scaler);
    instruct_schedule_.restore(progress.instruct_schedule);
    access_.load_arrays(read);
  });
}

}  // namespace zerostep
