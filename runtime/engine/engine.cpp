#include "runtime/engine/engine.h"

#include <ATen/Context.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/format.h"
#include "base/not_a_number.h"
#include "base/nth.h"
#include "base/program_name.h"
#include "models/fused_attention.h"
#include "runtime/engine/tier_options.h"
#include "runtime/plan/cost.h"

namespace zerostep {
namespace {

Config planned_config(Config config, const TrainingPlan& plan) {
  config.step.queries_per_pass = plan.queries_per_pass;
  return config;
}

// A GPU with LibTorch's operators and with memory for the plan's arenas and the scratch of kernels.
const Device& ready_for(const Config& config, const TrainingPlan& plan, const Device& device) {
  if (device.is_host()) return device;
  device.load_operators();
  at::globalContext().lazyInitDevice(at::Device(device.name()).type());
  const int64_t arenas = nth(plan.any_step().arena_bytes, Tier::Device) + kernel_scratch(config, plan.any_step().options).num_bytes();
  const MemoryInfo memory = device.memory_info();
  const ComparedBytes bytes = compared_bytes(arenas, memory.free_bytes);
  if (arenas > memory.free_bytes)
    fail_run(
        "{} has {} of {} free, and the plan takes {} for the runtime's arenas and the scratch of its kernels{}: end other programs there, "
        "or take what `{} plan` says "
        "needs less",
        device.description(), bytes.other, human_bytes(memory.total_bytes), bytes.one,
        plan.device_peak_bytes > 0 ? fmt::format(" and {} at its peak", human_bytes(plan.device_peak_bytes)) : "", program_name());
  return device;
}

}  // namespace

std::vector<StatePiece> owned_state(const TrainingPlan& plan, int rank) {
  std::vector<StatePiece> out;
  for (const StatePlace& place : state_places(plan.layout, plan.any_step(), rank, Elements::Owned)) out.push_back(place.piece);
  return out;
}

Engine::Engine(const Config& config, const ModelDefinition& model, const Objective& objective, TrainingPlan plan,
               const ParameterReader& initial, Communicator world, const Device& device)
    : config_(planned_config(config, plan)),
      plan_(std::move(plan)),
      trace_(config.run.trace ? std::make_unique<Trace>(world.rank()) : nullptr),
      lanes_(ready_for(config, plan_, device), kernels_of(device), world, plan_.streams_apart(device.is_host()), meter_, trace_.get(),
             config.wall_clock_breakdown || config.monitor.flops_enabled),
      state_(plan_.layout, plan_.any_step(), world, device, tier_options(config, world.rank(), device)),
      lent_(lanes_.group, state_.rank_values()),
      scalars_(state_.store(), device, lanes_.kernels, plan_.layout, config.step.uses_queries() ? 3 * config.step.queries : 0),
      access_(state_, lanes_),
      directions_(config.step, config.seed, device, lanes_.kernels, lanes_.compute),
      strategies_(make_strategies(config_, model, plan_.layout, objective, world.rank(), world.size())),
      launcher_(config_, model, plan_, state_, scalars_, directions_, strategies_, lanes_),
      runner_(config_, plan_, state_, scalars_, directions_, strategies_, launcher_, lanes_) {
  if (!device.is_host()) let_attention_repeat(config.run.deterministic);
  const KernelScratch scratch = kernel_scratch(config, plan_.any_step().options);
  if (scratch.sums) lanes_.kernels.take_scratch(scratch.parts, lanes_.compute);
  if (scratch.communication_sums) lanes_.kernels.take_scratch(scratch.communication_parts, lanes_.communication);
  lanes_.group.agree_on_host_memory(state_.store().is_communicated_memory_pinned());
  access_.load(initial);
  if (config.run.device_memory > 0 && device.is_host()) meter_.set_limit(config.run.device_memory, state_.arena_bytes());
  if (!device.is_host())
    device.limit_tensor_memory((config.run.device_memory > 0 ? config.run.device_memory : INT64_MAX) - state_.arena_bytes() -
                               scratch.num_bytes());
  release_free_memory();  // of what planning and loading took
}

void Engine::fail_everywhere(const std::string& what, const std::exception& error) {
  const bool says_where = dynamic_cast<const RunError*>(&error) != nullptr || dynamic_cast<const InputError*>(&error) != nullptr;
  const std::string text = says_where ? error.what() : fmt::format("rank {}, {}: {}", rank(), what, runner_.text_of(error));
  lanes_.group.abort(text);
  runner_.leave_step();
  if (says_where) throw;  // what is being handled
  throw RunError(text);
}

StepResult Engine::train_step(int64_t step, const StepBatches& batches, bool stop) {
  return guarded(fmt::format("step {}", step), [&] { return runner_.train_step(step, batches, stop); });
}

void Engine::replay(const LoggedStep& logged) {
  if (logged.skipped) return;
  guarded(fmt::format("update of step {}", logged.step), [&] { runner_.replay(logged); });
}

void Engine::copy_state(std::span<std::byte* const> targets) {
  guarded("copying the state", [&] {
    runner_.flush();
    access_.copy(targets);
  });
}

void Engine::read_parameter(int unit, int index, std::vector<float>& out) {
  guarded(fmt::format("reading parameter {} of unit {}", index, plan_.layout.unit(unit).name), [&] {
    runner_.flush();
    access_.read_parameter(unit, index, out);
  });
}

void Engine::restore(const TrainingProgress& progress, const StateReader& read) {
  guarded("restoring the state", [&] {
    runner_.restore(progress);
    access_.load_arrays(read);
  });
}

void Engine::settle() {
  guarded("the end of the steps so far", [&] { runner_.settle(); });
  if (lanes_.device_times) lanes_.device_times->read();
}

EvaluationResult Engine::evaluate(int64_t num_batches, const std::function<EvaluationBatch(int64_t)>& batch,
                                  const OutputObserver& outputs) {
  return guarded("evaluation", [&] {
    runner_.flush();
    return run_evaluation(num_batches, batch, outputs);
  });
}

EvaluationResult Engine::run_evaluation(int64_t num_batches, const std::function<EvaluationBatch(int64_t)>& batch,
                                        const OutputObserver& outputs) {
  const MeterScope meter = lanes_.metered();
  double sums[2] = {0, 0};  // loss, tokens
  scalars_.clear(lanes_.compute);
  for (int64_t i = 0; i < num_batches; ++i) {
    const EvaluationBatch own = batch(i);
    strategies_.evaluation->begin_step(1);
    if (outputs && own.counts)
      strategies_.evaluation->observe(outputs);
    else
      strategies_.evaluation->observe({});
    runner_.evaluate_batch(i, own.batch, own.counts);
    if (own.counts) sums[1] += static_cast<double>(own.batch.valid_tokens);
  }
  scalars_.read(lanes_.compute);
  sums[0] = scalars_.values(ScalarBlock::Part::EvaluationLoss)[0];
  strategies_.evaluation->reset();
  strategies_.evaluation->observe({});
  if (lanes_.device_times) lanes_.device_times->read();
  lanes_.group.all_reduce_scalars(sums, ReduceOp::Sum, "evaluation");
  return {without_sign_of_nan(sums[0] / std::max(1.0, sums[1])), static_cast<int64_t>(sums[1])};
}

}  // namespace zerostep
