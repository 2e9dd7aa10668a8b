#include "runtime/engine/training_cost.h"

#include <algorithm>

#include "base/blas_workspace.h"
#include "runtime/engine/tier_options.h"

namespace zerostep {

int64_t elements_of_unchanged_share(const Config& config, int world) {
  return step_kind(config.step, 0).queries && is_16bit(config.precision.compute) ? (world - 1) * kUnchangedScalars : 0;
}

PlanCost training_cost(const Config& config, const TrainingPlan& plan, const ModelDefinition& model, const Objective& objective,
                       WorkspaceMeter* meter, int64_t multiprocessors) {
  const bool on_gpu = config.run.device == "cuda";
  if (meter != nullptr && meter->device().is_host() == on_gpu) meter = nullptr;  // what libraries take elsewhere tells nothing
  const StepLoads loads(config, model, objective, meter != nullptr ? 0 : multiprocessors > 0 ? multiprocessors : kMostMultiprocessors);
  PlanCost out;
  out.workspace_known = !on_gpu || meter != nullptr;
  out.workspace_estimated = on_gpu && meter == nullptr;
  out.arena_bytes = plan.any_step().device_arena_bytes() + loads.kernel_bytes(plan.any_step().options);
  out.host_peak_bytes = nth(plan.any_step().arena_bytes, Tier::Host);
  for (const ScratchDemand& demand : scratch_demands(plan.any_step().buffers, tier_options(config, 0)))
    out.file_peak_bytes += demand.num_bytes;
  const auto add_memory = [&](const PlanCost& cost, const char* where) {
    // The highest tensors are those of one kind of step, the highest of both together perhaps of another.
    out.tensor_peak_bytes = std::max(out.tensor_peak_bytes, cost.tensor_peak_bytes);
    out.workspace_estimated |= cost.workspace_estimated;
    out.workspace_known &= cost.workspace_known;
    out.piece_bytes = std::max(out.piece_bytes, cost.piece_bytes);
    out.unmeasured_units.insert(cost.unmeasured_units.begin(), cost.unmeasured_units.end());
    if (cost.activation_peak_bytes <= out.activation_peak_bytes) return;
    out.activation_peak_bytes = cost.activation_peak_bytes;
    out.peak_at = cost.peak_at + where;
  };
  for (const TrainingPlan::Step& step : plan.steps) {
    add_memory(estimate_cost(step.plan, plan.layout, model, loads, meter), "");
    const bool is_first = step.kind == step_kind(config.step, 0);
    const int64_t besides = is_first ? elements_of_unchanged_share(config, step.plan.options.world) : 0;
    out.elements_gathered = std::max(out.elements_gathered, step.plan.elements_gathered);
    out.elements_reduced = std::max(out.elements_reduced, step.plan.elements_reduced + besides);
    out.flops = std::max(out.flops, step.plan.flops);
  }
  if (!config.data.eval.empty() || !config.data.test.empty())
    add_memory(estimate_cost(plan.evaluate, plan.layout, model, loads, meter), " of evaluation");
  // Matrices of updates are made on a stream of their own.
  if (on_gpu) out.blas_bytes = blas_workspace_bytes() * (config.optimizer.orthogonal() ? 2 : 1);
  out.device_peak_bytes = out.arena_bytes + out.activation_peak_bytes + out.blas_bytes;
  return out;
}

}  // namespace zerostep
