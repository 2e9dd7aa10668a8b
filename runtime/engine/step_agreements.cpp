#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/not_a_number.h"
#include "base/nth.h"
#include "base/process_memory.h"
#include "base/program_name.h"
#include "runtime/engine/averaging.h"
#include "runtime/engine/non_finite_error.h"
#include "runtime/engine/step_runner.h"
#include "runtime/strategy/projected_gradients.h"

// What the ranks agree on within a step, and what follows from it.

namespace zerostep {

bool StepRunner::agree(const Plan& plan, const Action& action) {
  if (action.kind != ActionKind::Agree) return true;
  pending_ = nullptr;  // an update of the step before was applied by actions that stand before this one
  StepRun& run = *run_;
  const bool is_host = lanes_.device.is_host();
  const std::string name = lanes_.trace != nullptr ? trace_name(plan_.layout, plan, action) : "";
  // On a GPU it is what the compute stream has nothing to do for.
  const DeviceTimes::Scope scope(lanes_.device_times.get(), lanes_.compute, nullptr, stream_name(action.lane), name);
  bool goes_on = true;
  switch (action.agreement) {
    case Agreement::Gradient:
      goes_on = agree_on_gradient(run);
      break;
    case Agreement::Losses:
      goes_on = agree_on_losses(run);
      break;
    case Agreement::Instruction:
      agree_on_instruction(run);
      break;
    case Agreement::Estimate:
      agree_on_estimate(run);
      break;
  }
  if (lanes_.trace != nullptr && is_host)  // what the ranks agree on was read when the compute stream had come here
    lanes_.trace->add(stream_name(action.lane), name, run.agreement_begin, lanes_.trace->now());
  run.held = -1;  // batches of backprop and of queries are other ones
  run.held_batches = nullptr;
  return goes_on;
}

void StepRunner::read_scalars() {
  const TimeInto time(lanes_.host_timers.reduce);
  scalars_.read(lanes_.compute);
  is_applying_ &= own_update_ != nullptr;  // a step's own is not safe before the ranks have agreed
}

AddOverRanks StepRunner::adder() {
  return [this](std::span<double> values, const char* what) { lanes_.group.all_reduce_scalars(values, ReduceOp::Sum, what); };
}

void StepRunner::agree_on_maxima(StepRun& run) {
  const int64_t device_bytes = state_.arena_bytes() + lanes_.kernels.scratch_bytes() + lanes_.tensor_memory().peak_bytes;
  const std::optional<GpuLoad> gpu = gpu_load_ ? gpu_load_->now() : std::nullopt;
  double maxima[kMaximumScalars] = {static_cast<double>(device_bytes), run.stop ? 1.0 : 0.0, static_cast<double>(resident_memory().now),
                                    gpu ? gpu->busy : -1, gpu ? static_cast<double>(gpu->used_bytes) : -1};
  lanes_.group.all_reduce_scalars(maxima, ReduceOp::Max, "memory and signals");
  run.result.device_peak_bytes = static_cast<int64_t>(maxima[0]);
  run.result.stop = maxima[1] > 0;
  run.result.resident_bytes = static_cast<int64_t>(maxima[2]);
  if (maxima[3] >= 0) run.result.gpu_busy = maxima[3];
  if (maxima[4] >= 0) run.result.gpu_bytes = static_cast<int64_t>(maxima[4]);
}

bool StepRunner::agree_on_gradient(StepRun& run) {
  StepResult& result = run.result;
  if (run.kind.instructed)
    run.instruction_sums = begin_instruction(instruct_schedule_.now(), directions_, run.step, owned_gradients(state_));
  read_scalars();
  const TimeInto time(lanes_.host_timers.scalars);
  const double local_loss = scalars_.values(ScalarBlock::Part::BackpropLoss)[0];
  strategies_.backprop->reset();
  const auto squares = scalars_.values(ScalarBlock::Part::SquaredNorms);
  double sums[kSummedScalars] = {local_loss, std::accumulate(squares.begin(), squares.end(), 0.0)};
  adder()(sums, "loss and norm");
  agree_on_maxima(run);

  result.bp_loss = without_sign_of_nan(sums[0] / static_cast<double>(std::max<int64_t>(1, run.global_tokens)));
  result.grad_norm = without_sign_of_nan(static_cast<float>(std::sqrt(sums[1]) * unscale_));
  result.lr = scalars_of(run.step, true).scheduled.lr;
  const bool overflow = !std::isfinite(sums[1]) || !std::isfinite(sums[0]);
  if (overflow && !config_.precision.skips_overflow()) report_non_finite(run.step, local_loss);
  if (overflow)
    skip_reason_ = scaler_.is_dynamic()
                       ? ""
                       : fmt::format("its {} gradients or its loss hold Inf or NaN{}", name_of(config_.precision.compute),
                                     config_.precision.compute == DType::F16
                                         ? fmt::format(" (static loss scale {}; fp16.loss_scale 0 is dynamic)", scaler_.scale())
                                         : "");
  scaler_.update(overflow);
  result.loss_scale = scaler_.scale();
  if (!overflow && !run.kind.queries && !own_update_) pending_ = settled_update(run);
  return !overflow;
}

bool StepRunner::agree_on_losses(StepRun& run) {
  StepResult& result = run.result;
  read_scalars();
  const TimeInto time(lanes_.host_timers.scalars);
  const auto values = scalars_.values(ScalarBlock::Part::QuerySums);
  std::vector<ZerothOrder::Sums> sums(values.size() / 3);
  static_assert(sizeof(ZerothOrder::Sums) == 3 * sizeof(double));
  std::copy(values.begin(), values.end(), &sums.front().plus);
  strategies_.queries->reset();
  adder()({&sums.front().plus, 3 * sums.size()}, "losses of the queries");
  agree_on_maxima(run);
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

void StepRunner::agree_on_instruction(StepRun& run) {
  const TimeInto time(lanes_.host_timers.scalars);
  const double squares = std::pow(run.result.grad_norm / unscale_, 2);
  instruction_ = find_instruction(instruct_schedule_.now(), directions_, run.step, owned_gradients(state_), squares,
                                  plan_.layout.num_elements(true), run.instruction_sums, adder());
  directions_.instruct(instruction_ ? &*instruction_ : nullptr);
}

void StepRunner::agree_on_estimate(StepRun& run) {
  const auto time = lanes_.timed(lanes_.host_timers, &StepTimers::update);
  StepResult& result = run.result;
  const bool follows_gradient = run.kind.update == StepKind::Update::Gradient;
  run.estimate = std::make_unique<Estimate>(directions_, run.step, transform_scalars(config_.step.transform, result.scalars),
                                            config_.step.blend, unscale_);
  if (run.kind.backprop) {
    const EstimateMeasures measures = measure_with_gradient(*run.estimate, directions_, owned_gradients(state_), adder());
    result.cosine = measures.cosine;
    result.slope = measures.product * unscale_;
    if (!follows_gradient) result.grad_norm = measures.norm;
  } else if (config_.step.exact_norm) {
    result.grad_norm = measure_norm(*run.estimate, directions_, owned_gradients(state_), adder());
  }
  if (follows_gradient) run.estimate.reset();
  pending_ = settled_update(run);
}

void StepRunner::report_non_finite(int64_t step, double local_loss) {
  std::string found;
  for (Stream* stream : lanes_.streams()) stream->synchronize();  // the run ends: what was read ahead is of no use
  // What an update in the backward has read of files is no longer there.
  const bool is_gone = own_update_ != nullptr && plan_.any_step().options.gradient_tier == Tier::File;
  // Where the step has summed squares: a GPU's kernels have memory for that there.
  Stream& sums = lanes_.group.size() == 1 && state_.has_whole_gradients() ? lanes_.compute : lanes_.communication;
  const std::string parameter = is_gone ? non_finite_group() : first_non_finite(state_, lanes_.device, lanes_.kernels, sums);
  const int rank = lanes_.group.rank();
  if (!std::isfinite(local_loss)) found = fmt::format("rank {}: the loss is {}", rank, without_sign_of_nan(local_loss));
  if (!parameter.empty()) found += fmt::format("{}rank {}: the gradient of {} is not finite", found.empty() ? "" : "; ", rank, parameter);
  std::string all;
  for (const std::string& text : lanes_.group.all_gather_text(found, "non-finite values"))
    if (!text.empty()) all += (all.empty() ? "" : "; ") + text;
  throw NonFiniteError(fmt::format(
      "step {}: {}. {}. A lower learning rate, gradient_clipping, or a look at the data of this step (`{} inspect batches`) helps; "
      "fp16 and bf16 runs skip such steps{}",
      step, all.empty() ? "the gradient norm is not finite" : all, parameters_left(), program_name(),
      config_.precision.compute == DType::BF16 ? ", bf16 where bf16.check_grad_overflow is true" : ""));
}

std::string StepRunner::non_finite_group() {
  const auto squares = scalars_.values(ScalarBlock::Part::SquaredNorms);
  for (const FlatGroup& g : plan_.layout.groups)
    if (!std::isfinite(nth(squares, g.id))) return "group " + g.name;
  return "";
}

}  // namespace zerostep
