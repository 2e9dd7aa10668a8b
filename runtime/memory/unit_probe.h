#pragma once
#include <vector>

#include "runtime/memory/workspace.h"

namespace zerostep {

// Runs units of a model once each, with made-up weights and the first one's own output as the next one's input, while what LibTorch
// allocates is counted, and takes off what their ActivationCost says. `units`: ascending, the first and the last of the model among them.
// The result's units are in their order. The work is that of nine forwards of each with a graph, of three without.
Workspaces probe_units(const ModelDefinition& model, const std::vector<int>& units, const Objective& objective,
                       const WorkspaceShape& shape);

}  // namespace zerostep
