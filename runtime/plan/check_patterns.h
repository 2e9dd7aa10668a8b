#pragma once
#include <string>
#include <vector>

#include "models/model.h"
#include "runtime/config/config.h"

namespace zerostep {

// The patterns that step.scope stands for; empty: every name.
std::vector<std::string> scope_patterns(const StepConfig& step, const ModelDefinition& model);

// Every name pattern of a configuration against the names of its model's parameters: optimizer.params.no_decay and no_muon,
// optimizer.groups, model.trainable and step.scope. InputError naming the key and the pattern that matches none, or saying that nothing is
// left to train.
void check_patterns(const Config& config, const ModelDefinition& model);

}  // namespace zerostep
