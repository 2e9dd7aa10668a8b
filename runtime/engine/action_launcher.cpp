#include "runtime/engine/action_launcher.h"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/memory/device_batch.h"

namespace zerostep {

ActionLauncher::ActionLauncher(const Config& config, const ModelDefinition& model, const TrainingPlan& plan, ShardedState& state,
                               const ScalarBlock& scalars, const Directions& directions, const Strategies& strategies, Lanes& lanes)
    : config_(config),
      plan_(plan),
      state_(state),
      scalars_(scalars),
      strategies_(strategies),
      lanes_(lanes),
      averaging_(averaging_of(config, lanes.group.size())),
      streamer_(model, state, lanes),
      reducer_(state, streamer_, scalars, averaging_.message_factor, lanes),
      weights_(state, streamer_, directions),
      optimizer_(config.optimizer, state, config.seed),
      matrix_optimizer_(config.optimizer, state, optimizer_, lanes) {
  if (const std::span<std::byte> memory = state.host_operands(); !memory.empty()) host_operands_.emplace(lanes.device, memory);
}

void ActionLauncher::read_batches(const Visit& visit, const SharedRun& run) {
  const int wanted = visit.probes ? visit.pass : visit.micro_batch;
  if (run->held == wanted) return;
  const TimeInto time(lanes_.host_timers.data);
  run->held = wanted;
  run->held_batches = nullptr;
  run->held_batches = std::make_shared<PassBatches>(visit.probes ? strategies_.queries->read_batches(visit, run->batches.queries)
                                                                 : PassBatches{{run->batches.backprop(visit.micro_batch)}});
  if (run->kind.backprop && !visit.probes && visit.micro_batch == 0) {
    run->global_tokens = run->held_batches->front().front().global_valid_tokens;
    strategies_.backprop->begin_step(run->loss_scale * averaging_.shares / static_cast<double>(std::max<int64_t>(1, run->global_tokens)) *
                                     averaging_.backward_factor);
  }
  lanes_.launch([this, held = run->held_batches] {
    std::vector<Batch*> batches;
    for (std::vector<Batch>& of_direction : *held)
      for (Batch& batch : of_direction) batches.push_back(&batch);
    bring_to_device(std::move(batches), lanes_.device);
  });
}

Event ActionLauncher::launch(const Plan& plan, const Action& action, const SharedRun& run, const std::shared_ptr<PendingUpdate>& update) {
  switch (action.kind) {
    case ActionKind::Begin:
      break;
    case ActionKind::Agree:
      if (Trace* trace = lanes_.trace; trace != nullptr && lanes_.device.is_host())
        lanes_.compute.enqueue([run, trace] { run->agreement_begin = trace->now(); });
      if (action.agreement == Agreement::Gradient) {
        const auto time = lanes_.timed(lanes_.host_timers, &StepTimers::reduce);
        lanes_.launch([this] { reducer_.square_sums(); });
      }
      break;
    case ActionKind::End:
      if (lanes_.device.is_host())
        lanes_.compute.synchronize();  // for which the plan lets it wait for all others
      else
        lanes_.join();
      break;
    case ActionKind::Gather:
      return streamer_.gather(action.group, action.slot, action.has_shard);
    case ActionKind::BringShard:
    case ActionKind::ReturnShard: {
      const bool brings = action.kind == ActionKind::BringShard;
      Stream& lane = lanes_.stream_of(action.lane);
      if (!brings && !update) return lane.record();  // nothing has changed it
      return lanes_.traced(action.lane, name_in_trace(plan, action), [&] {
        return brings ? streamer_.bring_shard(action.group, action.slot, lane) : streamer_.return_shard(action.group, action.slot, lane);
      });
    }
    case ActionKind::Release:
      if (!lanes_.device.is_host()) break;  // whose memory the host cannot fill
      return lanes_.launch([this, &action] { weights_.poison(action.group, action.slot); });
    case ActionKind::GatherGradient:
      return reducer_.gather(action.group, action.slot);
    case ActionKind::Load:
    case ActionKind::Store: {
      Stream& lane = lanes_.stream_of(action.lane);
      return lanes_.traced(action.lane, name_in_trace(plan, action), [&] {
        if (action.chunk.kind == BufferKind::Checkpoint) return lane.launch([this, &plan, &action] { copy_checkpoint(plan, action); });
        return action.kind == ActionKind::Load ? state_.store().load(action.chunk, lane) : state_.store().save(action.chunk, lane);
      });
    }
    case ActionKind::Drop:
      return lanes_.launch([this, &action] { strategies_.backprop->inputs().drop(action.chunk.index); });
    case ActionKind::Visit:
      return lanes_.launch([this, &plan, &action, run, batches = run->held_batches] { visit(plan, action, *run, *batches); });
    case ActionKind::Reduce: {
      const auto time = lanes_.timed(lanes_.host_timers, &StepTimers::reduce);
      return reducer_.reduce(action);
    }
    case ActionKind::GatherMatrices:
    case ActionKind::ScatterMatrixUpdates: {
      const auto time = lanes_.timed(lanes_.host_timers, &StepTimers::update);
      return matrix_optimizer_.exchange(action);
    }
    case ActionKind::MakeMatrixUpdates:
    case ActionKind::ApplyMatrixUpdates:
      return lanes_.launch([this, &action, update] {
        const auto time = lanes_.timed(lanes_.compute_timers, &StepTimers::update);
        matrix_optimizer_.update(action, update->scalars);
      });
    case ActionKind::Update: {
      const bool is_on_host = action.lane == Lane::HostCompute;
      const auto work = [this, &plan, &action, update, is_on_host] {
        if (!update) return;
        const auto scope = lanes_.traced(action.lane, name_in_trace(plan, action));
        if (is_on_host && lanes_.is_apart.host_compute) {
          const TimeInto time(lanes_.host_update_seconds);
          return update_part(action, *update);
        }
        const auto time = lanes_.timed(lanes_.compute_timers, &StepTimers::update, action.lane);
        update_part(action, *update);
      };
      return is_on_host ? lanes_.launch_on_host(work) : lanes_.launch(work, action.lane);
    }
    case ActionKind::GatherUpdated: {
      if (!update) return lanes_.communication.record();  // what waits for it waits for what stands before it in its lane
      const auto time = lanes_.timed(lanes_.host_timers, &StepTimers::update);
      return streamer_.gather_updated(action.parts, plan.options.allgather_partitions || plan.options.stage == 3);
    }
  }
  return lanes_.compute.record();
}

// On the thread of the host's lane, or to be queued on the compute stream.
void ActionLauncher::update_part(const Action& action, const PendingUpdate& update) {
  const bool is_on_host = action.lane == Lane::HostCompute;
  const FlatKernels& kernels = is_on_host ? host_kernels() : lanes_.kernels;
  const Stream& stream = lanes_.stream_of(action.lane);
  HostOperands* const copies = is_on_host && host_operands_ ? &*host_operands_ : nullptr;
  const auto kernel = [&](const PieceUpdate& piece, const OptimizerFormula& formula) {
    copies != nullptr ? copies->update(piece, formula, stream) : kernels.update(piece, formula, stream);
  };
  const Optimizer::Part part{action.group, action.begin, action.end, action.slot};
  optimizer_.update(part, update.scalars, kernel);
  if (copies != nullptr) copies->finish(stream);
}

void ActionLauncher::copy_checkpoint(const Plan& plan, const Action& action) {
  const int unit = action.chunk.index;
  ActivationStore& inputs = strategies_.backprop->inputs();
  const Store& store = state_.store();
  if (action.kind == ActionKind::Store)
    inputs.store(unit, {store.view(action.chunk), static_cast<size_t>(store.bytes(action.chunk))});
  else
    inputs.load(unit, store.view({BufferKind::CheckpointSlot, 0, checkpoint_slot(plan.options, unit)}));
}

void ActionLauncher::visit(const Plan& plan, const Action& action, const StepRun& run, const PassBatches& batches) {
  const Visit& visit = plan.visit(action.visit);
  const bool backward = visit.kind == VisitKind::Backward;
  const auto time = lanes_.timed(lanes_.compute_timers, backward ? &StepTimers::backward : &StepTimers::forward);
  weights_.enter(visit, action, run.step);
  if (!action.summed_gradients.empty()) {
    std::vector<const float*> gradients;
    auto summed = action.summed_gradients.begin();
    for (int g : plan_.layout.used_by(visit.unit))
      gradients.push_back(plan_.layout.group(g).trainable ? reducer_.gathered(*summed++) : nullptr);
    weights_.set_gradients(std::move(gradients));
  }
  if (backward) reducer_.bind(action.gradients, visit.unit);
  const auto scope = lanes_.traced(action.lane, name_in_trace(plan, action));
  const bool trains = run.kind.backprop && !visit.probes;
  static const Batch kNone;
  const Batch& batch = visit.probes ? kNone : batches.front().front();
  strategy_of(visit, run)
      .visit({visit, visit.unit + 1 == static_cast<int>(plan_.layout.units.size()), streamer_.unit(visit.unit), batch,
              ForwardContext{&batch, trains, config_.seed, run.step}, weights_, batches, sums_of(visit, run)});
  reducer_.collect(action.gradients);
  weights_.leave();
}

std::string ActionLauncher::name_in_trace(const Plan& plan, const Action& action) const {
  return lanes_.trace != nullptr ? trace_name(plan_.layout, plan, action) : "";
}

at::Tensor ActionLauncher::sums_of(const Visit& visit, const StepRun& run) const {
  using Part = ScalarBlock::Part;
  if (!visit.probes && !run.kind.backprop && !run.counts) return at::Tensor();
  return scalars_.tensor(visit.probes ? Part::QuerySums : run.kind.backprop ? Part::BackpropLoss : Part::EvaluationLoss);
}

StepStrategy& ActionLauncher::strategy_of(const Visit& visit, const StepRun& run) const {
  if (visit.probes) return *strategies_.queries;
  if (run.kind.backprop) return *strategies_.backprop;
  return *strategies_.evaluation;
}

}  // namespace zerostep
