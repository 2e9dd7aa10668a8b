#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "runtime/state/gradient_source.h"
#include "runtime/strategy/directions.h"
#include "runtime/strategy/owned_gradient.h"

namespace zerostep {

// The estimate of a step: (1/q) sum of scalar_i z_i, in fp32 in direction order. Of an instructed step: (1/q) sum of scalar_i d_i / c_i^2,
// blended with the gradient.
class Estimate final : public GradientSource {
 public:
  // `blend`: share of the gradient, `averaging`: what turns the reduced gradient into the mean; for instructed steps.
  Estimate(const Directions& directions, int64_t step, std::span<const double> scalars, double blend = 0, double averaging = 1);
  void prepare(const ParameterInfo& parameter) override;
  void read(int64_t begin, int64_t count, const float* reduced, float* out) const override;

 private:
  void read_noise(int64_t begin, int64_t count, float* out) const;
  const Directions& directions_;
  int64_t step_;
  std::vector<float> scalars_;
  std::vector<uint32_t> numbers_;  // 0, 1, ... of the directions
  float scale_;
  float of_gradient_ = 0;       // instructed: the estimate's own part along the gradient, ...
  float blended_gradient_ = 0;  // ... and the backprop gradient's share
  const ParameterInfo* parameter_ = nullptr;
  std::vector<LowRankDirection> low_rank_;  // of the parameter, when it has such
};

// Norm of an estimate over the whole model and, where there is a gradient to compare it with, their cosine. Collective.
struct EstimateMeasures {
  double norm = 0;
  std::optional<double> cosine;  // none where either is 0
};
EstimateMeasures measure_with_gradient(Estimate& estimate, std::span<const OwnedGradient> owned, const AddOverRanks& add);
double measure_norm(Estimate& estimate, std::span<const OwnedGradient> owned, const AddOverRanks& add);

}  // namespace zerostep
