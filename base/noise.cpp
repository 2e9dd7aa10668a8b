#include "base/noise.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/error.h"

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)  // no fused multiply-add: the scalar code serves those machines
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "base/noise.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "base/noise_simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// Calls write(tiles, tile, out, number) for the whole tiles of the slice, and through a buffer for those at its ends.
template <uint64_t kTile, typename T, typename Write>
void fill(const NoiseKey& key, uint64_t begin, int64_t count, T* out, const Write& write) {
  constexpr uint64_t kTilesPerSegment = (uint64_t{1} << 32) / kNoiseBlocksPerTile;
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, NoiseTiles::kTilesTogether> together;
  constexpr uint64_t kTogether = NoiseTiles::kTilesTogether;
  alignas(64) T buffer[kTile];
  const uint64_t end = begin + static_cast<uint64_t>(count);
  while (begin < end) {
    uint64_t tile = begin / kTile;
    const NoiseTiles tiles(key, tile * kNoiseBlocksPerTile);
    const uint64_t segment_end = std::min(end, (tile / kTilesPerSegment + 1) * kTilesPerSegment * kTile);
    if (begin % kTile != 0) {
      const uint64_t n = std::min(segment_end - begin, kTile - begin % kTile);
      write(tiles, tile, buffer, one);
      std::memcpy(out, buffer + begin % kTile, n * sizeof(T));
      begin += n;
      out += n;
      ++tile;
    }
    for (; segment_end - begin >= kTogether * kTile; begin += kTogether * kTile, out += kTogether * kTile, tile += kTogether) {
      write(tiles, tile, out, together);
    }
    for (; segment_end - begin >= kTile; begin += kTile, out += kTile, ++tile) write(tiles, tile, out, one);
    if (begin < segment_end) {
      write(tiles, tile, buffer, one);
      std::memcpy(out, buffer, (segment_end - begin) * sizeof(T));
      out += segment_end - begin;
      begin = segment_end;
    }
  }
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

void check(const NoiseKey& key, uint64_t begin, int64_t count) {
  if (key.step >= kNoiseMaxStep) fail_protocol("noise: step {} is not below 2^40", key.step);
  if (key.stream >= kNoiseMaxStream) fail_protocol("noise: stream {} is not below 2^24", key.stream);
  if (static_cast<uint32_t>(key.tag) > 255) fail_protocol("noise: tag {} is not below 256", static_cast<uint32_t>(key.tag));
  if (count < 0) fail_protocol("noise: a slice of {} elements", count);
  if (begin > kNoiseMaxElements || static_cast<uint64_t>(count) > kNoiseMaxElements - begin) {
    fail_protocol("noise: elements [{}, {} + {}) reach beyond 2^58", begin, begin, count);
  }
}

}  // namespace

void fill_normal(const NoiseKey& key, uint64_t begin, int64_t count, float* out) {
  check(key, begin, count);
  HWY_DYNAMIC_DISPATCH(fill_normal_target)(key, begin, count, out);
}

void fill_rademacher(const NoiseKey& key, uint64_t begin, int64_t count, float* out) {
  check(key, begin, count);
  HWY_DYNAMIC_DISPATCH(fill_rademacher_target)(key, begin, count, out);
}

void fill_bits(const NoiseKey& key, uint64_t begin, int64_t count, uint32_t* out) {
  check(key, begin, count);
  HWY_DYNAMIC_DISPATCH(fill_bits_target)(key, begin, count, out);
}

}  // namespace zerostep
#endif
