#include "base/noise.h"

#include <cstring>
#include <type_traits>

#include "base/error.h"
#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "base/noise.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "base/noise_simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// Calls write(tiles, tile, out, number) for the whole tiles of the range, and through a buffer for those at its ends.
template <uint64_t kTile, typename T, typename Write>
void fill(const NoiseKey& key, uint64_t begin, int64_t count, T* out, const Write& write) {
  alignas(64) T buffer[kTile];
  for_tiles<kTile, NoiseTiles::kTilesTogether>(
      key, begin, count, [&](const NoiseTiles& tiles, uint64_t tile, auto number, uint64_t skip, uint64_t n, uint64_t at) HWY_ATTR {
        if (n >= kTile) return write(tiles, tile, out + at, number);
        write(tiles, tile, buffer, std::integral_constant<int, 1>());
        std::memcpy(out + at, buffer + skip, n * sizeof(T));
      });
}

void fill_normal_target(const NoiseKey& key, uint64_t begin, int64_t count, float* out) {
  fill<kNoiseTile>(key, begin, count, out, [](const NoiseTiles& tiles, uint64_t tile, float* to, auto number) HWY_ATTR {
    tiles.normals<decltype(number)::value>(tile, to);
  });
}
void fill_rademacher_target(const NoiseKey& key, uint64_t begin, int64_t count, float* out) {
  fill<kNoiseSignTile>(key, begin, count, out, [](const NoiseTiles& tiles, uint64_t tile, float* to, auto number) HWY_ATTR {
    tiles.signs<decltype(number)::value>(tile, to);
  });
}
void fill_bits_target(const NoiseKey& key, uint64_t begin, int64_t count, uint32_t* out) {
  fill<kNoiseTile>(key, begin, count, out, [](const NoiseTiles& tiles, uint64_t tile, uint32_t* to, auto number) HWY_ATTR {
    tiles.bits<decltype(number)::value>(tile, to);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(fill_normal_target);
HWY_EXPORT(fill_rademacher_target);
HWY_EXPORT(fill_bits_target);

}  // namespace

void check_noise_range(const NoiseKey& key, uint64_t begin, int64_t count) {
  if (key.step >= kNoiseMaxStep) fail_protocol("noise: step {} is not below 2^40", key.step);
  if (key.stream >= kNoiseMaxStream) fail_protocol("noise: stream {} is not below 2^24", key.stream);
  if (static_cast<uint32_t>(key.tag) > 255) fail_protocol("noise: tag {} is not below 256", static_cast<uint32_t>(key.tag));
  if (count < 0) fail_protocol("noise: a range of {} elements", count);
  if (begin > kNoiseMaxElements || static_cast<uint64_t>(count) > kNoiseMaxElements - begin) {
    fail_protocol("noise: elements [{}, {} + {}) reach beyond 2^58", begin, begin, count);
  }
}

void fill_normal(const NoiseKey& key, uint64_t begin, int64_t count, float* out) {
  check_noise_range(key, begin, count);
  HWY_DYNAMIC_DISPATCH(fill_normal_target)(key, begin, count, out);
}

void fill_rademacher(const NoiseKey& key, uint64_t begin, int64_t count, float* out) {
  check_noise_range(key, begin, count);
  HWY_DYNAMIC_DISPATCH(fill_rademacher_target)(key, begin, count, out);
}

void fill_bits(const NoiseKey& key, uint64_t begin, int64_t count, uint32_t* out) {
  check_noise_range(key, begin, count);
  HWY_DYNAMIC_DISPATCH(fill_bits_target)(key, begin, count, out);
}

}  // namespace zerostep
#endif
