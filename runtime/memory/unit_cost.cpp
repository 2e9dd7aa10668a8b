#include "runtime/memory/unit_cost.h"

#include <cstddef>
#include <cstdint>

namespace zerostep {

ActivationCost cost_of_unit(const ModelDefinition& model, int unit, const WorkspaceShape& shape) {
  if (shape.takes_factors && static_cast<size_t>(unit) + 1 == model.units().size()) return model.factors_cost(shape.activations()).value();
  return model.activation_cost(unit, shape.activations());
}

ActivationCost cost_of_objective(const ModelDefinition& model, const Objective& objective, const WorkspaceShape& shape) {
  const int64_t outputs = model.num_classes() > 0 ? model.num_classes() : model.vocabulary_size();
  if (!shape.takes_factors) return objective.activation_cost(shape.activations(), outputs);
  const int64_t tokens = shape.batch * shape.sequence, rows = model.factors_cost(shape.activations())->output_bytes;
  return objective.factors_cost(tokens, rows / num_bytes(tokens, shape.compute_type), outputs, shape.compute_type);
}

}  // namespace zerostep
