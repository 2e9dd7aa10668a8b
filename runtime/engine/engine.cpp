#include "runtime/engine/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/not_a_number.h"
#include "models/error_text.h"
#include "runtime/engine/averaging.h"
#include "runtime/plan/cost.h"
#include "runtime/strategy/first_order.h"
#include "runtime/strategy/make_strategy.h"

namespace zerostep {
Engine::Engine(const Config& config, const ModelDefinition& model, const Objective& objective, TrainingPlan plan,
               const ParameterReader& initial, Communicator world, const Device& device, const FlatKernels& kernels)
    : config_(config),
      query_objective_(make_query_objective(config.step, model)),
      plan_(std::move(plan)),
      world_(std::move(world)),
      trace_(config.run.trace ? std::make_unique<Trace>(world_.rank()) : nullptr),
      device_(device),
      compute_(device.compute_stream()),
      stream_(plan_.any_step().options.overlap ? device.stream("communication") : compute_),
      state_(plan_.layout, plan_.any_step(), world_, device),
      scalars_(state_.store(), device, std::ssize(plan_.layout.groups), config.step.uses_queries() ? config.step.queries : 0),
      access_(plan_.layout, plan_.any_step(), state_, world_, stream_, kernels),
      streamer_(model, plan_.layout, plan_.any_step(), state_, world_, stream_, trace_.get()),
      reducer_(plan_.layout, plan_.any_step(), state_, streamer_, world_, stream_, kernels, compute_,
               averaging_of(config, world_.size()).before_message, scalars_, trace_.get()),
      directions_(config.step, config.seed, kernels, compute_),
      weights_(plan_.layout, plan_.any_step(), state_, streamer_, directions_),
      optimizer_(config.optimizer, plan_.layout, state_, config.seed, kernels, compute_),
      matrix_optimizer_(config.optimizer, plan_.layout, plan_.any_step(), state_, world_, compute_, stream_, optimizer_, kernels,
                        trace_.get()),
      schedule_(make_lr_schedule(config.scheduler, config.optimizer)),
      scaler_(config.precision),
      backprop_(make_backprop(config, plan_.layout, objective)),
      evaluation_(std::make_unique<Evaluate>(objective, static_cast<int>(plan_.layout.units.size()))),
      instruct_schedule_(config.step.instruct) {
  config_.step.queries_per_pass = plan_.queries_per_pass;
  if (config.step.uses_queries())
    queries_ = make_queries(config_, plan_.layout, query_objective_ ? *query_objective_ : objective, world_.rank(), world_.size());
  access_.load(initial);
  if (config.run.device_memory > 0) meter_.set_limit(config.run.device_memory, state_.arena_bytes());
  release_free_memory();  // of what planning and loading took
}

Engine::~Engine() = default;

void Engine::fail_everywhere(const std::string& what, const std::exception& error) {
  const bool says_where = dynamic_cast<const RunError*>(&error) != nullptr || dynamic_cast<const InputError*>(&error) != nullptr;
  const std::string text = says_where ? error.what() : fmt::format("rank {}, {}: {}", world_.rank(), what, error_text(error));
  world_.abort(text);
  leave_step();
  if (says_where) throw;  // what is being handled
  throw RunError(text);
}

void Engine::leave_step() noexcept {
  compute_.drain();  // what it runs may use what the caller has lent
  has_lost_update_ |= pending_ != nullptr;
  pending_ = nullptr;
}

StepResult Engine::train_step(int64_t step, const StepBatches& batches, bool stop) {
  return guarded(fmt::format("step {}", step), [&] { return run_step(step, batches, stop); });
}

StepResult Engine::run_step(int64_t step, const StepBatches& batches, bool stop) {
  const MeterScope meter = metered();
  const CommCounters before = world_.counters();
  host_timers_ = compute_timers_ = {};
  const SharedRun running = std::make_shared<StepRun>();
  StepRun& run = *running;
  run.step = step;
  run.kind = step_kind(config_.step, step);
  run.batches = batches;
  run.stop = stop;
  if (queries_) queries_->begin_step(1);
  scalars_.clear(compute_);
  const Plan& plan = plan_.step(run.kind);
  const bool applied = execute(plan, running);
  if (!plan.defers_update) pending_ = nullptr;
  StepResult& result = run.result;
  result.skipped = !applied;
  if (applied) ++(run.kind.backprop ? applied_.gradient_steps : applied_.estimate_steps);
  directions_.instruct(nullptr);
  if (!result.loss && (!config_.step.uses_queries() || config_.reads_one_stream())) result.loss = result.bp_loss;
  if (applied && result.loss) instruct_schedule_.add(*result.loss);
  count_skipped(step, applied);
  const CommCounters after = world_.counters();
  result.elements_gathered = after.elements_gathered() - before.elements_gathered();
  result.elements_reduced = after.elements_reduced() - before.elements_reduced();
  return result;
}

bool Engine::agree(Agreement agreement, StepRun& run) {
  pending_ = nullptr;  // the update of the step before was applied by actions that stand before this one
  switch (agreement) {
    case Agreement::Gradient:
      return agree_on_gradient(run);
    case Agreement::Losses:
      return agree_on_losses(run);
    case Agreement::Instruction:
      agree_on_instruction(run);
      return true;
    case Agreement::Estimate:
      agree_on_estimate(run);
      return true;
  }
  return true;
}

bool Engine::agree_on_gradient(StepRun& run) {
  StepResult& result = run.result;
  {
    const TimeInto time(host_timers_.reduce);
    launch_compute([this] { reducer_.square_sums(); });
    scalars_.read(compute_);
  }
  const TimeInto time(host_timers_.scalars);
  const double local_loss = scalars_.values(ScalarBlock::Part::BackpropLoss)[0];
  backprop_->reset();
  const auto squares = scalars_.values(ScalarBlock::Part::SquaredNorms);
  double sums[kSummedScalars] = {local_loss, std::accumulate(squares.begin(), squares.end(), 0.0)};
  world_.all_reduce_scalars(sums, ReduceOp::Sum, "loss and norm");
  agree_on_maxima(run.stop, result);

  unscale_ = averaging_of(config_, world_.size()).after_sum / scaler_.scale();
  result.bp_loss = without_sign_of_nan(sums[0] / static_cast<double>(std::max<int64_t>(1, run.global_tokens)));
  result.grad_norm = without_sign_of_nan(static_cast<float>(std::sqrt(sums[1]) * unscale_));
  result.lr = scalars_of(run.step, true).scheduled.lr;
  const bool overflow = !std::isfinite(sums[1]) || !std::isfinite(sums[0]);
  if (overflow && !is_16bit(config_.precision.compute)) report_non_finite(run.step, local_loss);
  if (overflow)
    skip_reason_ = scaler_.is_dynamic()
                       ? ""
                       : fmt::format("its {} gradients or its loss hold Inf or NaN{}", name_of(config_.precision.compute),
                                     config_.precision.compute == DType::F16
                                         ? fmt::format(" (static loss scale {}; fp16.loss_scale 0 is dynamic)", scaler_.scale())
                                         : "");
  scaler_.update(overflow);
  result.loss_scale = scaler_.scale();
  if (!overflow && !run.kind.queries) settle_update(run);
  return !overflow;
}

void Engine::agree_on_maxima(bool stop, StepResult& result) {
  double maxima[kMaximumScalars] = {static_cast<double>(device_peak_bytes()), stop ? 1.0 : 0.0};
  world_.all_reduce_scalars(maxima, ReduceOp::Max, "memory and signals");
  result.device_peak_bytes = static_cast<int64_t>(maxima[0]);
  result.stop = maxima[1] > 0;
}

double Engine::clipped(double norm) const {
  const double clip = config_.gradient_clipping;
  return clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1.0;
}

UpdateScalars Engine::scalars_of(int64_t step, bool gradient) const {
  UpdateScalars out;
  const bool separate = config_.step.separate_state;
  out.scheduled = schedule_->at(applied_.all());
  if (gradient && config_.step.bp_lr) out.scheduled.lr = *config_.step.bp_lr;
  out.applied_steps = !separate ? applied_.all() : gradient ? applied_.gradient_steps : applied_.estimate_steps;
  out.state_set = separate && gradient ? 1 : 0;
  out.step = step;
  return out;
}

void Engine::report_non_finite(int64_t step, double local_loss) {
  std::string found;
  const std::string parameter = reducer_.first_non_finite();
  if (!std::isfinite(local_loss)) found = fmt::format("rank {}: the loss is {}", world_.rank(), without_sign_of_nan(local_loss));
  if (!parameter.empty())
    found += fmt::format("{}rank {}: the gradient of {} is not finite", found.empty() ? "" : "; ", world_.rank(), parameter);
  std::string all;
  for (const std::string& text : world_.all_gather_text(found, "non-finite values"))
    if (!text.empty()) all += (all.empty() ? "" : "; ") + text;
  fail_run(
      "step {}: {}. {}. A lower learning rate, gradient_clipping, or a look at the data of this step (`zerostep inspect batches`) helps; "
      "fp16 and bf16 runs skip such steps",
      step, all.empty() ? "the gradient norm is not finite" : all, parameters_left());
}

std::string Engine::parameters_left() const {
  if (applied_.all() == 0) return "The parameters are the first values: no step was applied";
  return fmt::format("The parameters are as the last of {} applied steps left them", applied_.all());
}

void Engine::count_skipped(int64_t step, bool applied) {
  if (applied) skipped_in_a_row_ = 0;
  if (applied || skip_reason_.empty()) return;
  if (++skipped_in_a_row_ >= kMostSkipped) fail_skipped(step);
}

void Engine::fail_skipped(int64_t step) const {
  fail_run(
      "step {}: {} steps in a row were skipped, the last because {}. {}. A lower learning rate, a smaller step.epsilon where there are "
      "queries, or a look at the weights and the data (`zerostep inspect batches`) helps",
      step, skipped_in_a_row_, skip_reason_, parameters_left());
}

EvaluationResult Engine::evaluate(int64_t num_batches, const std::function<EvaluationBatch(int64_t)>& batch,
                                  const OutputObserver& outputs) {
  return guarded("evaluation", [&] {
    flush();
    return run_evaluation(num_batches, batch, outputs);
  });
}

EvaluationResult Engine::run_evaluation(int64_t num_batches, const std::function<EvaluationBatch(int64_t)>& batch,
                                        const OutputObserver& outputs) {
  const MeterScope meter = metered();
  double sums[2] = {0, 0};  // loss, tokens
  scalars_.clear(compute_);
  for (int64_t i = 0; i < num_batches; ++i) {
    const EvaluationBatch own = batch(i);
    evaluation_->begin_step(1);
    if (outputs && own.counts)
      evaluation_->observe(outputs);
    else
      evaluation_->observe({});
    const SharedRun run = std::make_shared<StepRun>();
    run->step = i;
    run->batches.backprop = [&](int64_t) { return own.batch; };
    run->counts = own.counts;
    execute(plan_.evaluate, run);
    if (own.counts) sums[1] += static_cast<double>(own.batch.valid_tokens);
  }
  scalars_.read(compute_);
  sums[0] = scalars_.values(ScalarBlock::Part::EvaluationLoss)[0];
  evaluation_->reset();
  evaluation_->observe({});
  world_.all_reduce_scalars(sums, ReduceOp::Sum, "evaluation");
  return {without_sign_of_nan(sums[0] / std::max(1.0, sums[1])), static_cast<int64_t>(sums[1])};
}

}  // namespace zerostep
