#pragma once
#include <cstdint>

#include "base/ieee.h"
#include "base/noise.h"
#include "offload/flat_operands.h"

namespace zerostep {

// Formulas of one element that every implementation of FlatKernels computes, each one fixed sequence of IEEE operations.

// d of a direction that the gradient g instructs, from noise z, with the weights of Direction: where all entries of the gradient do, and
// where the largest do.
ZEROSTEP_HOST_DEVICE inline float mixed_direction(float gradient_weight, float noise_weight, float g, float z) {
  return ieee_fma(gradient_weight, g, ieee_mul(noise_weight, z));
}
ZEROSTEP_HOST_DEVICE inline float split_direction(const GradientEntries& entries, float gradient_weight, float noise_weight, float g,
                                                  float z) {
  return entries.keeps(g) ? ieee_mul(gradient_weight, g) : ieee_mul(noise_weight, z);
}

// An instructed estimate, from `noise`, its scaled sum over directions, with the weights of NoiseEstimate.
ZEROSTEP_HOST_DEVICE inline float instructed_estimate(const GradientEntries& entries, float gradient_weight, float blended_weight, float g,
                                                      float noise) {
  const bool is_mixed = entries.which == GradientEntries::Which::All, is_kept = entries.keeps(g);
  return ieee_fma(is_mixed || is_kept ? ieee_add(gradient_weight, blended_weight) : blended_weight, g, is_mixed || !is_kept ? noise : 0.0f);
}

// The noise of the two factors of a direction of low rank, U V^T / sqrt(rank). `number`: the direction's.
ZEROSTEP_HOST_DEVICE inline NoiseKey low_rank_u_key(const NoiseSource& noise, uint32_t number) {
  return {noise.key.seed, NoiseTag::LowRankU, noise.key.step, number};
}
ZEROSTEP_HOST_DEVICE inline NoiseKey low_rank_v_key(const NoiseSource& noise, uint32_t number) {
  return {noise.key.seed, NoiseTag::LowRankV, noise.key.step / noise.refresh, number};
}

// What MatrixMoments describes. Coefficients are rounded to fp32 once.
struct MatrixMath {
  float beta1, weight1, beta2, weight2, eps;

  explicit MatrixMath(const MatrixMoments& moments)
      : beta1(static_cast<float>(moments.beta1)),
        weight1(static_cast<float>(1 - moments.beta1)),
        beta2(static_cast<float>(moments.beta2)),
        weight2(static_cast<float>(1 - moments.beta2)),
        eps(static_cast<float>(moments.eps)) {}
  ZEROSTEP_HOST_DEVICE float momentum(float m, float g) const { return ieee_add(ieee_mul(beta1, m), ieee_mul(weight1, g)); }
  ZEROSTEP_HOST_DEVICE float nesterov(float m, float g) const { return ieee_add(ieee_mul(weight1, g), ieee_mul(beta1, m)); }
  ZEROSTEP_HOST_DEVICE float second_moment(float v, float g) const {
    return ieee_add(ieee_mul(beta2, v), ieee_mul(weight2, ieee_mul(g, g)));
  }
  ZEROSTEP_HOST_DEVICE float quotient(float m, float v) const { return ieee_div(m, ieee_add(ieee_sqrt(v), eps)); }
  // Whether a cautious update leaves the entry in.
  ZEROSTEP_HOST_DEVICE static bool keeps(float m, float g) { return ieee_mul(m, g) > 0; }
  // By how much a cautious update that leaves in `num_kept` of `count` entries takes a longer step.
  ZEROSTEP_HOST_DEVICE static float rescaling(double num_kept, double count) {
    constexpr double kLeastShare = 1e-3;
    const double share = num_kept / count;
    return static_cast<float>(1 / (share > kLeastShare ? share : kLeastShare));
  }
};

// The bin of a value's square in FlatKernels::add_energy(); -1: in none.
ZEROSTEP_HOST_DEVICE inline int energy_bin(float value, int coarse_bin) {
  const uint32_t magnitude = bits_of_float(value) & 0x7FFFFFFFu;
  const auto coarse = static_cast<int>(magnitude >> kCoarseShift);
  if (coarse_bin < 0) return coarse;
  return coarse == coarse_bin ? static_cast<int>(magnitude >> kFineShift & (kEnergyBins - 1)) : -1;
}

}  // namespace zerostep
