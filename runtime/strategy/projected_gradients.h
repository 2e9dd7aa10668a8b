#pragma once
#include <span>
#include <string>
#include <vector>

#include "runtime/config/config.h"
#include "runtime/strategy/zeroth_order.h"

namespace zerostep {

// What the sums of all ranks say: one projected gradient a direction, and the loss.
struct ProjectedGradients {
  std::vector<double> scalars;
  double loss = 0;  // at the unperturbed weights (one-sided differences), else the mean over the pairs
  bool finite = true;
};
ProjectedGradients projected_gradients(const StepConfig& config, std::span<const ZerothOrder::Sums> sums);

// "the losses of 2 of its 3 directions are not finite (direction 1: nan and 4.2 ...)", where ProjectedGradients::finite is false.
std::string describe_non_finite(const StepConfig& config, std::span<const ZerothOrder::Sums> sums);

// Between the scalars and the update. Deterministic: a log of the scalars is enough to rebuild.
std::vector<double> transform_scalars(const StepConfig::Transform& transform, std::vector<double> scalars);

// Expected norm of the estimate in d dimensions: sqrt(d sum p^2) / q.
double expected_norm(std::span<const double> scalars, int64_t dimensions);

}  // namespace zerostep
