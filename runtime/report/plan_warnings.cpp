#include "runtime/report/plan_warnings.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/format.h"
#include "runtime/engine/training_cost.h"
#include "runtime/report/plan_tables.h"

namespace zerostep {
namespace {

const char* key_of(Tier tier) { return tier == Tier::Host ? "cpu" : "nvme"; }

std::string parameters_warning(const ZeroConfig& zero, const TrainingPlan& plan) {
  const Tier tier = zero.offload_param.tier;
  if (tier == Tier::Device || bytes_in(plan.any_step(), tier, {BufferKind::Parameters}) > 0) return "";
  const std::string key = fmt::format("zero_optimization.offload_param.device is \"{}\"", key_of(tier));
  if (bytes_in(plan.any_step(), Tier::Host, {BufferKind::Parameters}) > 0)
    return fmt::format(
        "{}, and nothing rests in files: offload_param.max_in_cpu {} keeps so many elements of a rank in memory of the host. A lower one, "
        "or none, lets the rest go to files",
        key, zero.offload_param.max_in_cpu);
  const ParameterInfo* largest = nullptr;
  for (const UnitInfo& unit : plan.layout.units)
    for (const ParameterInfo& p : unit.parameters)
      if (largest == nullptr || p.num_elements() > largest->num_elements()) largest = &p;
  return fmt::format(
      "{}, and all parameters stay on the device: none is larger than stage3_param_persistence_threshold {} (the largest, {}, has {} "
      "elements). A lower stage3_param_persistence_threshold moves what is larger than it, 0 everything",
      key, zero.stage3_param_persistence_threshold, largest->name, grouped(largest->num_elements()));
}

std::string state_warning(const ZeroConfig& zero, const TrainingPlan& plan) {
  const Tier tier = zero.offload_optimizer.tier;
  if (!has_idle_state_tier(zero, plan)) return "";
  return fmt::format(
      "zero_optimization.offload_optimizer.device is \"{}\", and nothing rests there: {}", key_of(tier),
      zero.offload_optimizer.ratio == 0
          ? "offload_optimizer.ratio is 0; 1 offloads all of the optimizer's state"
          : "this optimizer keeps no state and no fp32 masters in this precision, and no shards of gradients at this stage and mode");
}

// Inputs that the first micro-batch keeps for recomputation.
int64_t kept_inputs(const Plan& plan) {
  return std::count_if(plan.visits.begin(), plan.visits.end(), [](const Visit& at) { return at.keep_input && at.micro_batch == 0; });
}

std::string recomputation_warning(const Config& config, const Plan& backprop) {
  const bool is_asked_for = config.number_checkpoints != 0 || config.cpu_checkpointing || config.profile_checkpointing;
  if (!is_asked_for || kept_inputs(backprop) > 0) return "";
  return fmt::format(
      "activation_checkpointing recomputes nothing: {}. number_checkpoints 2 or more, of a model with as many blocks, recomputes all "
      "segments but the last, whose graph is kept",
      config.number_checkpoints < 0 ? "at most one block is trained" : fmt::format("number_checkpoints is {}", config.number_checkpoints));
}

std::string checkpoints_warning(const Config& config, const TrainingPlan& plan, const Plan& backprop, const ModelDefinition& model,
                                const Objective& objective) {
  if (!config.cpu_checkpointing || kept_inputs(backprop) == 0) return "";
  Config kept = config;
  kept.cpu_checkpointing = false;
  const PlanCost with = training_cost(config, plan, model, objective);
  const PlanCost without = training_cost(kept, plan_training(kept, model, objective, backprop.options.world), model, objective);
  if (with.device_peak_bytes < without.device_peak_bytes) return "";
  const int64_t inputs = kept_inputs(backprop);
  return fmt::format(
      "activation_checkpointing.cpu_checkpointing frees no memory of the device: a rank's peak is {} with it and {} without, at {} (inputs "
      "kept for recomputation: {}; slots on the device that they come back into: {}). {}",
      human_bytes(with.device_peak_bytes), human_bytes(without.device_peak_bytes), with.peak_at, inputs, checkpoint_slots(backprop.options),
      inputs > kMostCheckpointSlots ? "Leave it out"
                                    : fmt::format("Leave it out, or set number_checkpoints to {} or more (of a model with as many blocks)",
                                                  kMostCheckpointSlots + 2));
}

}  // namespace

bool has_idle_state_tier(const ZeroConfig& zero, const TrainingPlan& plan) {
  const Tier tier = zero.offload_optimizer.tier;
  const auto kinds = {BufferKind::Gradients, BufferKind::UpdateState, BufferKind::MatrixState};
  return tier != Tier::Device && bytes_in(plan.any_step(), tier, kinds) + bytes_in(plan.any_step(), Tier::Host, kinds) == 0;
}

std::vector<std::string> plan_warnings(const Config& config, const TrainingPlan& plan, const ModelDefinition& model,
                                       const Objective& objective) {
  std::vector<std::string> out{parameters_warning(config.zero, plan), state_warning(config.zero, plan)};
  const auto step = std::find_if(plan.steps.begin(), plan.steps.end(), [](const TrainingPlan::Step& s) { return s.kind.backprop; });
  if (step != plan.steps.end()) {
    out.push_back(recomputation_warning(config, step->plan));
    out.push_back(checkpoints_warning(config, plan, step->plan, model, objective));
  }
  std::erase(out, "");
  return out;
}

}  // namespace zerostep
