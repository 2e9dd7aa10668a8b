#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/strategy/directions.h"
#include "runtime/strategy/owned_gradient.h"

namespace zerostep {

// The estimate of a step, as what an update follows: (1/q) sum of scalar_i z_i, in fp32 in direction order. Of an instructed step: (1/q)
// sum of scalar_i d_i / c_i^2, blended with the gradient.
class Estimate {
 public:
  // `blend`: share of the gradient, `averaging`: what turns the reduced gradient into the mean; for instructed steps.
  Estimate(const Directions& directions, int64_t step, std::span<const double> scalars, double blend = 0, double averaging = 1);
  Estimate(const Estimate&) = delete;
  Estimate& operator=(const Estimate&) = delete;
  // Points at numbers and scalars of the estimate, which must outlive it. Where the reduced gradient lies is left open.
  const Gradient& gradient() const { return gradient_; }

 private:
  std::vector<float> scalars_;
  std::vector<uint32_t> numbers_;  // 0, 1, ... of the directions
  Gradient gradient_;
};

// Norm of an estimate over the whole model and, where there is a gradient to compare it with, their cosine. Collective.
struct EstimateMeasures {
  double norm = 0;
  double product = 0;            // <estimate, reduced gradient>
  std::optional<double> cosine;  // none where either is 0
};
EstimateMeasures measure_with_gradient(const Estimate& estimate, const Directions& directions, std::span<const OwnedGradient> owned,
                                       const AddOverRanks& add);
double measure_norm(const Estimate& estimate, const Directions& directions, std::span<const OwnedGradient> owned, const AddOverRanks& add);

}  // namespace zerostep
