#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "experiments/probe/probe_input.h"

namespace zerostep {

// How far the projected gradients of an epsilon are from the derivatives: the root of the mean square of (p - <g, z>) over directions, over
// that of <g, z>. Not finite where a loss is not.
struct EpsilonError {
  double epsilon = 0, error = 0;
};

// <g, z> of directions 0, 1, ... along which the file's queries look (direction 0 of so many steps), g the gradient of backprop in fp32 on
// the first batch at the first values. RunError where all are 0.
std::vector<double> true_slopes(const ProbeInput& input, int64_t directions);
// The errors of the file's estimator, type and batch along the same directions.
std::vector<EpsilonError> epsilon_curve(const ProbeInput& input, std::span<const double> epsilons, std::span<const double> slopes);

// Half decades from 1e-6 to 1e-1.
std::vector<double> usual_epsilons();
// The middle of the epsilons around the best one whose error is at most twice the best: rounding grows on one side of them, curvature on
// the other. Nothing where no error is finite.
std::optional<double> recommended_epsilon(std::span<const EpsilonError> curve);

}  // namespace zerostep
