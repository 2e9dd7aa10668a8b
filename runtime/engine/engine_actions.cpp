#include <algorithm>

#include "base/error.h"
#include "base/nth.h"
#include "models/error_text.h"
#include "runtime/engine/averaging.h"
#include "runtime/engine/device_batch.h"
#include "runtime/engine/engine.h"
#include "runtime/strategy/first_order.h"

// The executor: the actions of a plan on their streams.

namespace zerostep {

bool Engine::execute(const Plan& plan, const SharedRun& run) {
  done_.assign(plan.actions.size(), Event());
  int i = 0;
  try {
    for (; i < static_cast<int>(plan.actions.size()); ++i) {
      const Action& action = plan.action(i);
      if (action.kind == ActionKind::Visit) read_batches(plan.visit(action.visit), run);
      wait_for(plan, action);
      Event& done = nth(done_, i) = launch(plan, action, run);
      if (action.kind == ActionKind::Visit && done.ready()) done.wait();  // rethrows
      if (action.kind != ActionKind::Agree) continue;
      if (!agree(action.agreement, *run)) return false;  // every lane was done before the ranks agreed
      run->held = -1;
      run->held_batches = nullptr;
    }
  } catch (const PeerError&) {
    throw;  // another rank says where
  } catch (const std::exception& error) {
    for (int failed = 0; failed <= i; ++failed) {
      const Action& action = plan.action(failed);
      if (action.kind != ActionKind::Visit || !nth(done_, failed).failed()) continue;
      const Visit& visit = plan.visit(action.visit);
      const bool trains = run->kind.backprop || run->kind.queries;
      fail_run("rank {}, {} {}, {} of unit {}: {}", world_.rank(), trains ? "step" : "evaluation batch", run->step, name_of(visit.kind),
               plan_.layout.unit(visit.unit).name, error_text(error));
    }
    throw;
  }
  return true;
}

void Engine::read_batches(const Visit& visit, const SharedRun& run) {
  const int wanted = visit.probes ? visit.pass : visit.micro_batch;
  if (run->held == wanted) return;
  const TimeInto time(host_timers_.data);
  run->held = wanted;
  run->held_batches = nullptr;
  run->held_batches = std::make_shared<PassBatches>(visit.probes ? queries_->read_batches(visit, run->batches.queries)
                                                                 : PassBatches{{run->batches.backprop(visit.micro_batch)}});
  if (run->kind.backprop && !visit.probes && visit.micro_batch == 0) {
    run->global_tokens = run->held_batches->front().front().global_valid_tokens;
    const Averaging averaging = averaging_of(config_, world_.size());
    backprop_->begin_step(scaler_.scale() * averaging.shares / static_cast<double>(std::max<int64_t>(1, run->global_tokens)) *
                          averaging.before_backward);
  }
  launch_compute([this, held = run->held_batches] {
    for (std::vector<Batch>& batches : *held)
      for (Batch& batch : batches) bring_to_device(batch, device_);
  });
}

void Engine::wait_for(const Plan& plan, const Action& action) {
  for (const int index : action.waits) {
    const Event& event = nth(done_, index);
    Stream& stream = action.lane == Lane::Compute ? compute_ : stream_;
    if (action.lane != Lane::Compute || event.ready()) {
      stream.wait(event);
      continue;
    }
    const auto start = std::make_shared<std::optional<TimeInto>>();
    double& seconds = action.kind == ActionKind::Visit   ? compute_timers_.wait
                      : action.kind == ActionKind::Agree ? compute_timers_.reduce
                                                         : compute_timers_.update;
    const std::string what = trace_ ? "wait for " + describe(plan_.layout, plan, plan.action(index)) : "";
    Trace::on_stream(trace_.get(), stream, "computation", what, [&] {
      stream.enqueue([start, &seconds] { start->emplace(seconds); });
      stream.wait(event);
      return stream.enqueue([start] { start->reset(); });
    });
  }
}

Event Engine::launch_compute(std::function<void()> work) {
  return compute_.launch([this, work = std::move(work)] {
    const MeterScope meter = metered();
    work();
  });
}

Event Engine::launch(const Plan& plan, const Action& action, const SharedRun& run) {
  switch (action.kind) {
    case ActionKind::Begin:
    case ActionKind::Agree:
      break;
    case ActionKind::End:
      compute_.synchronize();
      break;
    case ActionKind::Gather:
      return streamer_.gather(action.group, action.slot);
    case ActionKind::Release:
      return launch_compute([this, &action] { weights_.poison(action.group, action.slot); });
    case ActionKind::GatherGradient:
      return reducer_.gather(action.group, action.slot);
    case ActionKind::Visit:
      return launch_compute([this, &plan, &action, run, batches = run->held_batches] { visit(plan, action, *run, *batches); });
    case ActionKind::Reduce: {
      const TimeInto time(host_timers_.reduce);
      return reducer_.reduce(action);
    }
    case ActionKind::UpdateMatrices: {
      const TimeInto time(host_timers_.update);
      matrix_optimizer_.update(action.round, pending_->scalars, action.reads_gradient);
      break;
    }
    case ActionKind::Update:
      return launch_compute([this, &action, update = pending_] {
        if (!update) return;
        const TimeInto time(compute_timers_.update);
        const Trace::Scope scope(trace_.get(), "computation", trace_ ? "update " + plan_.layout.group(action.group).name : "");
        optimizer_.update(action.group, action.begin, action.end, update->scalars);
      });
    case ActionKind::GatherUpdated: {
      if (!pending_) return stream_.record();  // what waits for it waits for what stands before it in its lane
      const TimeInto time(host_timers_.update);
      return streamer_.gather_updated(action.parts, plan.options.allgather_partitions || plan.options.stage == 3);
    }
  }
  return compute_.record();
}

void Engine::visit(const Plan& plan, const Action& action, const StepRun& run, const PassBatches& batches) {
  const Visit& visit = plan.visit(action.visit);
  const bool backward = visit.kind == VisitKind::Backward;
  const TimeInto time(backward ? compute_timers_.backward : compute_timers_.forward);
  weights_.enter(visit, action, run.step);
  if (!action.summed_gradients.empty()) {
    std::vector<const float*> gradients;
    auto summed = action.summed_gradients.begin();
    for (int g : plan_.layout.used_by(visit.unit))
      gradients.push_back(plan_.layout.group(g).trainable ? reducer_.gathered(*summed++) : nullptr);
    weights_.set_gradients(std::move(gradients));
  }
  if (backward) reducer_.bind(action.gradients, visit.unit);
  const Trace::Scope scope(trace_.get(), "computation",
                           trace_ ? std::string(name_of(visit.kind)) + " " + plan_.layout.unit(visit.unit).name : "");
  const bool trains = run.kind.backprop && !visit.probes;
  static const Batch kNone;
  const Batch& batch = visit.probes ? kNone : batches.front().front();
  strategy_of(visit, run)
      .visit({visit, visit.unit + 1 == static_cast<int>(plan_.layout.units.size()), streamer_.unit(visit.unit), batch,
              ForwardContext{&batch, trains, config_.seed, run.step}, weights_, batches, sums_of(visit, run)});
  reducer_.collect(action.gradients);
  weights_.leave();
}

at::Tensor Engine::sums_of(const Visit& visit, const StepRun& run) const {
  using Part = ScalarBlock::Part;
  if (!visit.probes && !run.kind.backprop && !run.counts) return at::Tensor();
  return scalars_.tensor(visit.probes ? Part::QuerySums : run.kind.backprop ? Part::BackpropLoss : Part::EvaluationLoss);
}

StepStrategy& Engine::strategy_of(const Visit& visit, const StepRun& run) const {
  if (visit.probes) return *queries_;
  if (run.kind.backprop) return *backprop_;
  return *evaluation_;
}

}  // namespace zerostep
