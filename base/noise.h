#pragma once
#include <cstdint>

namespace zerostep {

// What a random number is for. The tag is part of the counter, so no two uses share a number.
enum class NoiseTag : uint32_t {
  Direction = 1,
  Dropout = 2,
  Rounding = 3,
  Initialisation = 4,
  Permutation = 5,
  LowRankU = 6,
  LowRankV = 7,
  Mixture = 8
};

// z = f(seed, tag, step, stream, element): Philox4x32-10 on a counter laid out as documented in noise_math.h. No state is carried.
struct NoiseKey {
  uint64_t seed = 0;
  NoiseTag tag = NoiseTag::Direction;
  uint64_t step = 0;    // below 2^40
  uint32_t stream = 0;  // direction, or dropout's (unit, site); below 2^24
};

// Throws ProtocolError where the counter cannot hold the key or elements [begin, begin + count).
void check_noise_range(const NoiseKey& key, uint64_t begin, int64_t count);

// Elements [begin, begin + count) of the noise that belongs to a key. Bitwise the same on every instruction set, for any range.
void fill_normal(const NoiseKey& key, uint64_t begin, int64_t count, float* out);
void fill_rademacher(const NoiseKey& key, uint64_t begin, int64_t count, float* out);
// 32 uniform bits an element.
void fill_bits(const NoiseKey& key, uint64_t begin, int64_t count, uint32_t* out);

}  // namespace zerostep
