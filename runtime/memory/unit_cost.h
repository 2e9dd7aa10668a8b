#pragma once
#include "models/model.h"
#include "models/objective.h"
#include "runtime/memory/workspace.h"

namespace zerostep {

// What the tensors of a unit take for a shape, and those of the objective behind the last one. Where shape.takes_factors, the last unit
// hands on factors of the logits, which the model has then (ModelDefinition::factors_cost()), and the objective takes these.
ActivationCost cost_of_unit(const ModelDefinition& model, int unit, const WorkspaceShape& shape);
ActivationCost cost_of_objective(const ModelDefinition& model, const Objective& objective, const WorkspaceShape& shape);

}  // namespace zerostep
