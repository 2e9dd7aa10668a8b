#include "base/error.h"
#include "base/nth.h"
#include "runtime/engine/engine.h"

// What of an engine outlives it: its part of the parameters and of the optimizer's state, and the scalars beside.

namespace zerostep {

// Calls use(parameter, array, begin, count, where) for the optimizer's arrays of all elements that this rank updates.
template <typename Use>
void Engine::for_each_state(const Use& use) {
  const PlanOptions& options = plan_.train.options;
  for (const FlatGroup& g : plan_.layout.groups) {
    const ShardedState::Group& state = state_.group(g.id);
    if (state.optimizer_state == nullptr) continue;
    const int64_t stride = state.update_whole ? g.full_elements() : g.shard_elements();
    for (const ShardedState::Piece& p : state_.pieces(g.id))
      for (int k = 0; k < options.optimizer_state_values; ++k)
        use(plan_.layout.parameter(g, p.parameter), k, p.parameter_offset, p.count, state.optimizer_state + k * stride + p.part_offset);
  }
  for (const AssignedParameter& p : plan_.train.matrices.parameters) {
    if (p.owner != world_.rank()) continue;
    for (int k = 0; k < options.matrix_state_values; ++k)
      use(plan_.layout.parameter(plan_.layout.group(p.group), p.parameter), k, int64_t{0}, p.num_elements(), matrix_state(p, k));
  }
}

float* Engine::matrix_state(const AssignedParameter& p, int array) const {
  return state_.matrices().optimizer_state + array * plan_.train.matrices.state_elements + p.state_offset;
}

std::vector<StateSlice> owned_state(const TrainingPlan& plan, int rank) {
  const PlanOptions& options = plan.train.options;
  std::vector<StateSlice> out;
  const auto info = [&](const FlatGroup& g, int parameter) { return &plan.layout.parameter(g, parameter); };
  for (const FlatGroup& g : plan.layout.groups) {
    const bool masters = g.trainable && has_masters(g, options);
    for (const FlatLayout::Piece& p : g.layout.pieces(rank)) {
      out.push_back({info(g, p.parameter), StateSlice::kValues, p.parameter_offset, p.count, masters ? DType::F32 : g.type});
      for (int k = 0; k < (g.trainable && !g.assigned ? options.optimizer_state_values : 0); ++k)
        out.push_back({info(g, p.parameter), k, p.parameter_offset, p.count, DType::F32});
    }
  }
  for (const AssignedParameter& p : plan.train.matrices.parameters)
    for (int k = 0; k < (p.owner == rank ? options.matrix_state_values : 0); ++k)
      out.push_back({info(plan.layout.group(p.group), p.parameter), k, 0, p.num_elements(), DType::F32});
  return out;
}

std::vector<StateSlice> Engine::owned_state() const {
  std::vector<StateSlice> out = zerostep::owned_state(plan_, world_.rank());
  auto next = out.begin();
  const auto place = [&](void* data) { (next++)->data = data; };
  const PlanOptions& options = plan_.train.options;
  for (const FlatGroup& g : plan_.layout.groups) {
    const ShardedState::Group& state = state_.group(g.id);
    const int64_t stride = state.update_whole ? g.full_elements() : g.shard_elements();
    for (const FlatLayout::Piece& p : state_.owned(g.id)) {
      const int64_t at = state.update_whole ? p.full_offset : p.shard_offset,
                    whole = state.parameters_whole ? p.full_offset : p.shard_offset;
      place(state.masters != nullptr ? static_cast<void*>(state.masters + at)
                                     : static_cast<std::byte*>(state.parameters) + num_bytes(whole, g.type));
      for (int k = 0; k < (state.optimizer_state == nullptr ? 0 : options.optimizer_state_values); ++k)
        place(state.optimizer_state + k * stride + at);
    }
  }
  for (const AssignedParameter& p : plan_.train.matrices.parameters)
    for (int k = 0; k < (p.owner == world_.rank() ? options.matrix_state_values : 0); ++k) place(matrix_state(p, k));
  if (next != out.end()) fail_protocol("[engine] {} slices of state were planned, {} are there", out.size(), next - out.begin());
  return out;
}

Engine::Progress Engine::progress() const {
  return {applied_steps_,    {applied_of_kind_[0], applied_of_kind_[1]},
          skipped_in_a_row_, config_.precision.compute,
          scaler_.state(),   instruct_schedule_.state()};
}

void Engine::restore(const Progress& progress, const StateReader& read) {
  applied_steps_ = progress.applied_steps;
  skipped_in_a_row_ = progress.skipped_in_a_row;
  for (int kind = 0; kind < 2; ++kind) applied_of_kind_[kind] = progress.applied_of_kind[kind];
  if (progress.precision == config_.precision.compute) scaler_.restore(progress.loss_scaler);
  instruct_schedule_.restore(progress.instruct_schedule);
  for_each_state([&](const ParameterInfo& parameter, int array, int64_t begin, int64_t count, float* data) {
    read(parameter, array, begin, count, data);
  });
}

}  // namespace zerostep
