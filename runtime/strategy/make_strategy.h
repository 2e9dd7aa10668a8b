#pragma once
#include <memory>

#include "runtime/config/config.h"
#include "runtime/plan/model_layout.h"
#include "runtime/strategy/strategy.h"

namespace zerostep {

// The strategy that `step.mode` names.
std::unique_ptr<StepStrategy> make_strategy(const Config& config, const ModelLayout& layout, const Objective& objective);

}  // namespace zerostep
