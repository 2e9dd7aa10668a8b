#pragma once
#include <cstdint>

#include "base/ieee.h"

namespace zerostep {

// Casts of one value between fp32 and the 16-bit types: round to nearest even, overflow to infinity, NaN stays NaN (quiet, with its upper
// payload bits; a GPU's instructions leave these out). Every other implementation (lanes-inl.h) gives the same bits.
#ifdef __CUDA_ARCH__
__device__ inline uint16_t bf16_from_fp32(float value) {
  uint16_t result;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result) : "f"(value));
  return result;
}
__device__ inline uint16_t fp16_from_fp32(float value) {
  uint16_t result;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result) : "f"(value));
  return result;
}
__device__ inline float fp32_from_fp16(uint16_t value) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
  return result;
}
__device__ inline uint32_t bf16_pair_from_fp32(float lower, float upper) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(upper), "f"(lower));
  return result;
}
__device__ inline uint32_t fp16_pair_from_fp32(float lower, float upper) {
  uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(upper), "f"(lower));
  return result;
}
#else
inline uint16_t bf16_from_fp32(float value) {
  const uint32_t bits = bits_of_float(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
inline uint16_t fp16_from_fp32(float value) {
  const uint32_t bits = bits_of_float(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00 | (magnitude >> 13 & 0x3FF));  // NaN
  if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);                             // 65520 and above
  if (magnitude < 0x38800000) {
    // Below 2^-14: adding 1/2 leaves the multiple of 2^-24 in the lowest bits, rounded as the sum is.
    return static_cast<uint16_t>(sign | (bits_of_float(ieee_add(float_of_bits(magnitude), 0.5f)) - 0x3F000000));
  }
  return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1)) >> 13));
}
inline float fp32_from_fp16(uint16_t value) {
  const uint32_t sign = uint32_t{value & 0x8000u} << 16;
  const uint32_t magnitude = value & 0x7FFF;
  if (magnitude >= 0x7C00) return float_of_bits(sign | 0x7F800000 | (magnitude & 0x3FF) << 13 | (magnitude > 0x7C00 ? 0x400000 : 0));
  if (magnitude >= 0x0400) return float_of_bits(sign | ((magnitude << 13) + 0x38000000));
  return float_of_bits(sign | bits_of_float(ieee_mul(static_cast<float>(magnitude), 0x1p-24f)));
}
// Two that lie one after the other.
inline uint32_t bf16_pair_from_fp32(float lower, float upper) { return bf16_from_fp32(lower) | uint32_t{bf16_from_fp32(upper)} << 16; }
inline uint32_t fp16_pair_from_fp32(float lower, float upper) { return fp16_from_fp32(lower) | uint32_t{fp16_from_fp32(upper)} << 16; }
#endif
ZEROSTEP_HOST_DEVICE inline float fp32_from_bf16(uint16_t value) { return float_of_bits(uint32_t{value} << 16); }

}  // namespace zerostep
