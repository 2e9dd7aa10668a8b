#pragma once
#include <vector>

#include "models/model.h"
#include "runtime/memory/workspace.h"

namespace zerostep {

// A unit whose workspace is asked for.
struct ProbedUnit {
  int unit = 0;
  bool runs = true;  // false: it is too large, and its output is made up
};

// The work of a probe of a unit, in forwards: two without a graph and the one whose output goes on; where a backward follows also two that
// record one, and their backwards, each the work of two.
constexpr double kProbeForwards = 3;
constexpr double kProbeForwardsWithGraph = 9;

// Runs units of a model once each, with made-up weights and the first one's own output as the next one's input, while what LibTorch
// allocates is counted, and takes off what their ActivationCost says. `units`: ascending, the first and the last of the model among them.
// The result's units are in their order. On a GPU, which gets back what LibTorch took for it, nothing is known where its memory does not
// hold a unit.
Workspaces probe_units(const ModelDefinition& model, const std::vector<ProbedUnit>& units, const Objective& objective,
                       const WorkspaceShape& shape, const Device& device);

}  // namespace zerostep
