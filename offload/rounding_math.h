#pragma once
#include <cstdint>

#include "base/ieee.h"

namespace zerostep {

// Stochastic rounding of one float with 32 random bits: the discarded bits plus as many random ones carry into the result. Every other
// implementation (host_rounding-inl.h) gives the same bits.
ZEROSTEP_HOST_DEVICE inline uint16_t bf16_stochastically(float x, uint32_t random) {
  const uint32_t bits = bits_of_float(x);
  if (x != x) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + (random >> 16)) >> 16);
}

ZEROSTEP_HOST_DEVICE inline uint16_t fp16_stochastically(float x, uint32_t random) {
  constexpr uint32_t kNormal = 0x38800000, kTooLarge = 0x47800000, kInfinity = 0x7F800000;  // 2^-14, 2^16
  const uint32_t bits = bits_of_float(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude > kInfinity) return static_cast<uint16_t>(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));
  if (magnitude >= kTooLarge) return static_cast<uint16_t>(sign | 0x7C00);
  if (magnitude >= kNormal) return static_cast<uint16_t>(sign | (magnitude - 0x38000000 + (random >> 19)) >> 13);
  const float units = ieee_mul(float_of_bits(magnitude), 0x1p24f);
  const auto whole = static_cast<uint32_t>(units);
  const auto fraction = static_cast<uint32_t>(ieee_mul(ieee_sub(units, static_cast<float>(whole)), 0x1p32f));
  return static_cast<uint16_t>(sign | (whole + (fraction + random < fraction)));
}

}  // namespace zerostep
