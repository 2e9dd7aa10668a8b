#include "base/error.h"
#include "base/nth.h"
#include "runtime/engine/engine.h"
#include "runtime/state/copy_runs.h"
#include "runtime/state/state_places.h"

// What of an engine outlives it: its part of the parameters and of the optimizer's state, and the scalars beside.

namespace zerostep {

std::vector<StateSlice> owned_state(const TrainingPlan& plan, int rank) {
  std::vector<StateSlice> out;
  for (const StatePlace& place : state_places(plan.layout, plan.any_step(), rank, Elements::Owned)) out.push_back(place.slice);
  return out;
}

void Engine::copy_state(std::span<std::byte* const> targets) {
  guarded("copying the state", [&] { flush(); });
  const std::vector<StatePlace> places = state_places(plan_.layout, plan_.any_step(), world_.rank(), Elements::Owned);
  if (places.size() != targets.size()) fail_protocol("[engine] {} slices of state are copied to {} places", places.size(), targets.size());
  std::vector<CopiedRun> runs;
  for (size_t i = 0; i < places.size(); ++i) {
    state_.store().fetch(places[i].chunk, stream_).wait();
    runs.push_back(
        {state_.store().view(places[i].chunk) + places[i].byte_offset, targets[i], num_bytes(places[i].slice.count, places[i].slice.type)});
  }
  copy_runs(runs);
  for (const StatePlace& place : places) state_.store().release(place.chunk, false, stream_);
}

Engine::Progress Engine::progress() const {
  return {applied_, skipped_in_a_row_, config_.precision.compute, scaler_.state(), instruct_schedule_.state()};
}

void Engine::restore(const Progress& progress, const StateReader& read) {
  applied_ = progress.applied;
  skipped_in_a_row_ = progress.skipped_in_a_row;
  if (progress.precision == config_.precision.compute) scaler_.restore(progress.loss_scaler);
  instruct_schedule_.restore(progress.instruct_schedule);
  for (const auto& [slice, chunk, byte_offset] : state_places(plan_.layout, plan_.any_step(), world_.rank(), Elements::Updated)) {
    if (slice.array == StateSlice::kValues) continue;
    state_.store().fetch(chunk, stream_).wait();
    std::byte* at = state_.store().view(chunk) + byte_offset;
    read(*slice.parameter, slice.array, slice.begin, slice.count, reinterpret_cast<float*>(at));
    state_.store().release(chunk, true, stream_);
  }
}

}  // namespace zerostep
