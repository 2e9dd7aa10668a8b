#pragma once
#include <string>
#include <vector>

#include "runtime/engine/training_plan.h"

namespace zerostep {

// Sentences on what a configuration asks for and its plan does not give, with the way out: `offload_param` or `offload_optimizer` that move
// nothing, recomputation that recomputes nothing, `cpu_checkpointing` that frees no memory of the device (for which the step is planned
// without it, too). InputError as plan_training throws.
std::vector<std::string> plan_warnings(const Config& config, const TrainingPlan& plan, const ModelDefinition& model,
                                       const Objective& objective);

// Whether offload_optimizer names a tier, and nothing of the plan rests there: neither state nor gradients.
bool has_idle_state_tier(const ZeroConfig& zero, const TrainingPlan& plan);

}  // namespace zerostep
