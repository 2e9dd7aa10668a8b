#include "runtime/engine/step_runner.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "base/program_name.h"
#include "models/error_text.h"
#include "models/fused_attention.h"
#include "runtime/engine/averaging.h"
#include "runtime/strategy/projected_gradients.h"
#include "runtime/strategy/unchanged_weights.h"

namespace zerostep {

StepRunner::StepRunner(const Config& config, const TrainingPlan& plan, ShardedState& state, ScalarBlock& scalars, Directions& directions,
                       const Strategies& strategies, ActionLauncher& launcher, Lanes& lanes)
    : config_(config),
      plan_(plan),
      state_(state),
      scalars_(scalars),
      directions_(directions),
      strategies_(strategies),
      launcher_(launcher),
      lanes_(lanes),
      executor_(plan.layout, lanes),
      schedule_(make_lr_schedule(config.scheduler, config.optimizer)),
      scaler_(config.precision),
      instruct_schedule_(config.step.instruct) {
  if (!lanes.device.is_host()) gpu_load_.emplace(lanes.device.name());
}

StepResult StepRunner::train_step(int64_t step, const StepBatches& batches, bool stop) {
  const MeterScope meter = lanes_.metered();
  const CommCounters before = lanes_.group.counters();
  const FileTraffic files_before = state_.store().file_traffic();
  lanes_.host_timers = lanes_.compute_timers = {};
  if (lanes_.device_times) lanes_.device_times->begin_step();
  const SharedRun run = std::make_shared<StepRun>();
  run->step = step;
  run->kind = step_kind(config_.step, step);
  run->batches = batches;
  run->loss_scale = scaler_.scale();
  run->stop = stop;
  if (strategies_.queries) strategies_.queries->begin_step(1);
  if (step == 0 && run->kind.queries && is_16bit(config_.precision.compute))
    run->result.unchanged_share = unchanged_share(directions_, state_, step, adder());
  scalars_.clear(lanes_.compute);
  const Plan& plan = plan_.step(run->kind);
  unscale_ = averaging_of(config_, lanes_.group.size()).sum_factor / scaler_.scale();
  own_update_ = plan.updates_in_backward ? settled_update(*run) : nullptr;
  const bool applied = execute(plan, run);
  if (!plan.defers_update) pending_ = nullptr;
  own_update_ = nullptr;
  StepResult& result = run->result;
  result.skipped = !applied;
  if (applied) ++(run->kind.backprop ? applied_.gradient_steps : applied_.estimate_steps);
  directions_.instruct(nullptr);
  if (!result.loss && (!config_.step.uses_queries() || config_.reads_one_stream())) result.loss = result.bp_loss;
  if (applied && result.loss) instruct_schedule_.add(*result.loss);
  count_skipped(step, applied);
  const CommCounters after = lanes_.group.counters();
  result.elements_gathered = after.elements_gathered() - before.elements_gathered();
  result.elements_reduced = after.elements_reduced() - before.elements_reduced();
  const FileTraffic files = state_.store().file_traffic();
  result.file_bytes_read = files.bytes_read - files_before.bytes_read;
  result.file_bytes_written = files.bytes_written - files_before.bytes_written;
  if (lanes_.device_times) lanes_.device_times->end_step();
  lanes_.count_host_update();
  return result;
}

void StepRunner::evaluate_batch(int64_t index, const Batch& batch, bool counts) {
  const SharedRun run = std::make_shared<StepRun>();
  run->step = index;
  run->batches.backprop = [&](int64_t) { return batch; };
  run->counts = counts;
  execute(plan_.evaluate, run);
}

bool StepRunner::execute(const Plan& plan, const SharedRun& run) {
  run_ = run;
  run_before_ = std::exchange(last_run_, run);
  is_applying_ |= pending_ != nullptr && plan.applies_pending;
  const bool applied = executor_.execute(plan, *this);
  if (lanes_.device.is_host()) is_applying_ = false;
  run_ = nullptr;
  run->batches = {};  // what is still under way holds its own
  run->held_batches = nullptr;
  return applied;
}

void StepRunner::prepare(const Plan& plan, const Action& action) {
  if (action.visit >= 0) launcher_.read_batches(plan.visit(action.visit), run_);
}

Event StepRunner::launch(const Plan& plan, const Action& action) {
  is_applying_ |= own_update_ != nullptr && action.kind == ActionKind::Update;
  return launcher_.launch(plan, action, run_, own_update_ ? own_update_ : pending_);
}

void StepRunner::explain(const Plan& plan, const Action& action, bool is_of_list_before, const std::exception& error) {
  const StepRun& run = is_of_list_before ? *run_before_ : *last_run_;
  if (action.visit < 0) {
    if (run.trains() && (action.kind == ActionKind::Load || action.kind == ActionKind::Store))
      fail_run("step {}: {}", run.step, error.what());
    return;
  }
  const Visit& visit = plan.visit(action.visit);
  fail_run("rank {}, {} {}, {} of unit {}: {}", lanes_.group.rank(), run.trains() ? "step" : "evaluation batch", run.step,
           name_of(visit.kind), plan_.layout.unit(visit.unit).name, text_of(error));
}

std::string StepRunner::text_of(const std::exception& error) const {
  if (lanes_.device.is_host() || dynamic_cast<const c10::OutOfMemoryError*>(&error) == nullptr) return error_text(error);
  const RefusedTensor refused = lanes_.device.refused_tensor();
  const MemoryInfo memory = lanes_.device.memory_info();
  const int64_t limit = config_.run.device_memory, planned = plan_.device_peak_bytes;
  return fmt::format(
      "{}; LibTorch, which takes memory in pieces of 2 MiB and more, holds {} bytes for tensors{}. {} has {} bytes ({}), {} of them "
      "free{}, or take what `{} plan` says needs less",
      needed_text(state_.arena_bytes() + lanes_.kernels.scratch_bytes(), refused.live_bytes, refused.num_bytes),
      grouped(refused.held_bytes),
      planned > 0 ? fmt::format(", and {} bytes ({}) were planned in all", grouped(planned), human_bytes(planned)) : "",
      lanes_.device.name(), grouped(memory.total_bytes), human_bytes(memory.total_bytes), grouped(memory.free_bytes),
      limit > 0 ? fmt::format(", and run.device_memory is {} bytes ({}): raise it", grouped(limit), human_bytes(limit))
                : ": end other programs there",
      program_name());
}

UpdateScalars StepRunner::scalars_of(int64_t step, bool gradient) const {
  UpdateScalars out;
  const bool separate = config_.step.separate_state;
  out.scheduled = schedule_->at(applied_.all());
  if (gradient && config_.step.bp_lr) out.scheduled.lr = *config_.step.bp_lr;
  out.applied_steps = !separate ? applied_.all() : gradient ? applied_.gradient_steps : applied_.estimate_steps;
  out.state_set = separate && gradient ? 1 : 0;
  out.step = step;
  return out;
}

double StepRunner::clipped(double norm) const {
  const double clip = config_.gradient_clipping;
  return clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0;
}

std::shared_ptr<PendingUpdate> StepRunner::settled_update(StepRun& run) const {
  PendingUpdate update{scalars_of(run.step, run.kind.backprop), std::move(run.estimate)};
  run.result.clip_scale = clipped(run.result.grad_norm);
  const bool follows_gradient = run.kind.update == StepKind::Update::Gradient;
  if (update.estimate) update.scalars.gradient = update.estimate->gradient();
  update.scalars.gradient_scale = static_cast<float>(follows_gradient ? unscale_ * run.result.clip_scale : run.result.clip_scale);
  return std::make_shared<PendingUpdate>(std::move(update));
}

void StepRunner::flush() {
  if (has_lost_update_) fail_run("rank {}: a failure came while an update was applied; the parameters are of no step", lanes_.group.rank());
  const MeterScope meter = lanes_.metered();
  if (pending_) execute(plan_.update, std::make_shared<StepRun>());
  settle();
  pending_ = nullptr;
}

void StepRunner::replay(const LoggedStep& logged) {
  flush();
  pending_ = std::make_shared<PendingUpdate>();
  pending_->estimate = std::make_unique<Estimate>(directions_, logged.step, transform_scalars(config_.step.transform, logged.scalars));
  pending_->scalars = scalars_of(logged.step, false);
  pending_->scalars.scheduled.lr = logged.lr;
  pending_->scalars.gradient = pending_->estimate->gradient();
  pending_->scalars.gradient_scale = static_cast<float>(logged.clip_scale);
  flush();
  ++applied_.estimate_steps;
}

void StepRunner::leave_step() noexcept {
  // What they run may use what the caller has lent, and slots that whoever reads the state next needs.
  for (Stream* stream : lanes_.streams())
    if (stream != &lanes_.communication) stream->drain();
  end_deterministic_algorithms();
  run_ = nullptr;
  has_lost_update_ |= pending_ != nullptr || is_applying_;
  pending_ = own_update_ = nullptr;
}

TrainingProgress StepRunner::progress() const {
  return {applied_, skipped_in_a_row_, config_.precision.compute, scaler_.state(), instruct_schedule_.state()};
}

void StepRunner::restore(const TrainingProgress& progress) {
  applied_ = progress.applied;
  skipped_in_a_row_ = progress.skipped_in_a_row;
  if (progress.precision == config_.precision.compute) scaler_.restore(progress.loss_scaler);
  instruct_schedule_.restore(progress.instruct_schedule);
}

std::string StepRunner::parameters_left() const {
  if (is_applying_) return "The parameters are of no step: they were updated before it was known that the gradient is finite";
  if (applied_.all() == 0) return "The parameters are the first values: no step was applied";
  return fmt::format("The parameters are as the last of {} applied steps left them", applied_.all());
}

void StepRunner::count_skipped(int64_t step, bool applied) {
  if (applied) skipped_in_a_row_ = 0;
  if (applied || skip_reason_.empty()) return;
  if (++skipped_in_a_row_ >= kMostSkipped) fail_skipped(step);
}

void StepRunner::fail_skipped(int64_t step) const {
  fail_run(
      "step {}: {} steps in a row were skipped, the last because {}. {}. A lower learning rate, a smaller step.epsilon where there are "
      "queries, or a look at the weights and the data (`{} inspect batches`) helps",
      step, skipped_in_a_row_, skip_reason_, parameters_left(), program_name());
}

}  // namespace zerostep
