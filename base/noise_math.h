#pragma once
#include <cstdint>

#include "base/ieee.h"
#include "base/noise.h"
#include "base/philox.h"

namespace zerostep {

// The definition of the noise, one element at a time. Every other implementation (SIMD, CUDA) gives the same bits.
//
// Key words:      key0 = seed's low 32 bits, key1 = its high 32 bits
// Counter words:  c0 = block, bits 0-31
//                 c1 = tag in bits 24-31, block's bits 32-55 in bits 0-23
//                 c2 = step, bits 0-31
//                 c3 = stream in bits 8-31, step's bits 32-39 in bits 0-7
// Bits and normals: tiles of 64 elements take 16 blocks; element r of its tile is word r / 16 of block r % 16. Words 0 and 1 of a
//                   block make the normals in their places, words 2 and 3 likewise.
// Signs:            tiles of 2048 elements take 16 blocks; element r of its tile is bit 31 - (r / 16) % 32 of word r / 512 of block r % 16.
// Vectors of 16 (8, 4) consecutive blocks therefore write consecutive elements, without a shuffle.
inline constexpr uint64_t kNoiseBlocksPerTile = 16;
inline constexpr uint64_t kNoiseTile = 64;        // elements of bits and normals
inline constexpr uint64_t kNoiseSignTile = 2048;  // elements of signs
inline constexpr uint64_t kNoiseMaxElements = uint64_t{1} << 58;
inline constexpr uint64_t kNoiseMaxStep = uint64_t{1} << 40;
inline constexpr uint32_t kNoiseMaxStream = uint32_t{1} << 24;

ZEROSTEP_HOST_DEVICE inline PhiloxBlock noise_counter(const NoiseKey& key, uint64_t block) {
  return {{static_cast<uint32_t>(block), static_cast<uint32_t>(key.tag) << 24 | static_cast<uint32_t>(block >> 32),
           static_cast<uint32_t>(key.step), key.stream << 8 | static_cast<uint32_t>(key.step >> 32)}};
}

ZEROSTEP_HOST_DEVICE inline PhiloxBlock noise_block(const NoiseKey& key, uint64_t block) {
  return philox4x32(noise_counter(key, block), static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32));
}

// Polynomials, highest power first.
struct NoiseCoefficients {
  float log[8];  // -2 ln(1 + f) = f P(f) on [sqrt(1/2) - 1, sqrt(2) - 1], relative error 1.7e-7
  float sin[4];  // sin(pi/4 v) = v S(v^2) on [-1, 1], error 3.3e-9
  float cos[3];  // cos(pi/4 v) = 1 + v^2 C(v^2) on [-1, 1], error 3.3e-8
};
ZEROSTEP_HOST_DEVICE constexpr NoiseCoefficients noise_coefficients() {
  return {{0.20213790237903595f, -0.3244517147541046f, 0.34501662850379944f, -0.39800330996513367f, 0.4993981719017029f,
           -0.6667011976242065f, 1.0000072717666626f, -1.9999998807907104f},
          {-3.59504520019982e-05f, 0.00249000103212893f, -0.08074543625116348f, 0.7853981852531433f},
          {-0.0003191601426806301f, 0.01585039682686329f, -0.3084245026111603f}};
}
inline constexpr float kNoiseMinus2Ln2 = -1.3862943611198906f;
inline constexpr float kNoiseTwoToMinus31 = 4.656612873077393e-10f;
inline constexpr uint32_t kNoiseSqrtHalfBits = 0x3F3504F3u;                                          // of sqrt(1/2)
inline constexpr uint32_t kNoiseSqrtHalfTimes2To31Bits = kNoiseSqrtHalfBits + (uint32_t{31} << 23);  // of 2^31 sqrt(1/2)

struct NormalPair {
  float first, second;
};

// Box-Muller: u = (radius' upper 31 bits + 1/2) / 2^31 in (0, 1], r = sqrt(-2 ln u); the lower 30 bits of `angle` choose an angle in
// [-pi/4, pi/4), its upper two the quadrant (negate the cosine, exchange cosine and sine).
ZEROSTEP_HOST_DEVICE inline NormalPair normal_pair(uint32_t radius, uint32_t angle) {
  constexpr NoiseCoefficients k = noise_coefficients();
  const float x = ieee_add(ieee_from_int(static_cast<int32_t>(radius >> 1)), 0.5f);
  const uint32_t shifted = bits_of_float(x) - kNoiseSqrtHalfTimes2To31Bits;
  const float exponent = ieee_from_int(static_cast<int32_t>(shifted) >> 23);
  const float f = ieee_add(float_of_bits((shifted & 0x007FFFFFu) + kNoiseSqrtHalfBits), -1.0f);
  float log = k.log[0];
  for (int i = 1; i < 8; ++i) log = ieee_fma(log, f, k.log[i]);
  const float r = ieee_sqrt_between(ieee_fma(exponent, kNoiseMinus2Ln2, ieee_mul(log, f)));

  const float v = ieee_mul(ieee_from_int(static_cast<int32_t>(angle << 2)), kNoiseTwoToMinus31);
  const float z = ieee_mul(v, v);
  const float s = ieee_mul(v, ieee_fma(ieee_fma(ieee_fma(k.sin[0], z, k.sin[1]), z, k.sin[2]), z, k.sin[3]));
  float c = ieee_fma(ieee_fma(ieee_fma(k.cos[0], z, k.cos[1]), z, k.cos[2]), z, 1.0f);
  c = float_of_bits(bits_of_float(c) ^ (angle & 0x80000000u));
  const bool exchange = static_cast<int32_t>(angle << 1) < 0;
  return {ieee_mul(r, exchange ? s : c), ieee_mul(r, exchange ? c : s)};
}

// Word i: a choice, since an array with indices that are not constant lies in a GPU's memory.
ZEROSTEP_HOST_DEVICE inline uint32_t noise_word(const PhiloxBlock& block, uint64_t i) {
  const uint32_t lower = i % 2 == 0 ? block.word[0] : block.word[1], upper = i % 2 == 0 ? block.word[2] : block.word[3];
  return i < 2 ? lower : upper;
}

ZEROSTEP_HOST_DEVICE inline uint32_t noise_bits(const NoiseKey& key, uint64_t element) {
  const uint64_t r = element % kNoiseTile;
  return noise_word(noise_block(key, element / kNoiseTile * kNoiseBlocksPerTile + r % 16), r / 16);
}

ZEROSTEP_HOST_DEVICE inline float noise_normal(const NoiseKey& key, uint64_t element) {
  const uint64_t r = element % kNoiseTile;
  const PhiloxBlock block = noise_block(key, element / kNoiseTile * kNoiseBlocksPerTile + r % 16);
  const uint64_t word = r / 32 * 2;
  const NormalPair pair = normal_pair(noise_word(block, word), noise_word(block, word + 1));
  return r / 16 % 2 == 0 ? pair.first : pair.second;
}

ZEROSTEP_HOST_DEVICE inline float noise_rademacher(const NoiseKey& key, uint64_t element) {
  const uint64_t r = element % kNoiseSignTile;
  const uint32_t word = noise_word(noise_block(key, element / kNoiseSignTile * kNoiseBlocksPerTile + r % 16), r / 512);
  return float_of_bits((word << (r / 16 % 32) & 0x80000000u) | 0x3F800000u);
}

}  // namespace zerostep
