#include "offload/host_perturb.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "base/error.h"
#include "base/nth.h"
#include "base/simd_targets.h"
#include "offload/flat_math.h"
#include "offload/low_rank.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "offload/host_perturb.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "base/noise_simd-inl.h"
#include "offload/host_kernels-inl.h"
#include "offload/host_rounding-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

#if ZEROSTEP_FUSED_VECTORS
using Lanes = Vector;
#else
using Lanes = Scalar;
#endif

// Calls f(lanes, i) for every vector of elements and for each one left over.
template <class F>
HWY_INLINE void for_lanes(int64_t count, const F& f) {
  int64_t i = 0;
  for (; i + Lanes::kLanes <= count; i += Lanes::kLanes) f(Lanes(), i);
  for (; i < count; ++i) f(Scalar(), i);
}

template <class As, class L>
HWY_INLINE typename L::V rounded(typename L::V x) {
  typename As::T to[L::kLanes];
  As::template store<L>(x, to);
  return As::template load<L>(to);
}

// Calls use(Base, Target) with the types of the piece.
template <class Use>
HWY_INLINE auto dispatch_types(const PerturbedPiece& piece, const Use& use) {
  return dispatch_type(piece.base_type, [&](auto base) HWY_ATTR {
    return dispatch_type(piece.target_type, [&](auto target) HWY_ATTR { return use(base, target); });
  });
}

// What is done to element i, or to a vector of elements from i on, with noise z.
template <class Base, class Target>
struct PerturbOp {
  static constexpr bool kFromRegisters = !std::is_same_v<Target, AsBFloat16>;
  const void* base;
  void *plus, *minus;
  float epsilon;
  explicit PerturbOp(const PerturbedPiece& piece) : base(piece.base), plus(piece.plus), minus(piece.minus), epsilon(piece.epsilon) {}

  template <class L>
  HWY_INLINE void at(int64_t i, typename L::V z) const {
    prefetch_at<Base>(base, i);
    const auto value = load_at<Base, L>(base, i);
    if (plus != nullptr) {
      prefetch_at<Target>(plus, i);
      store_at<Target, L>(L::fma(L::set(epsilon), z, value), plus, i);
    }
    if (minus != nullptr) {
      prefetch_at<Target>(minus, i);
      store_at<Target, L>(L::fma(L::set(-epsilon), z, value), minus, i);
    }
  }
};

// The same for one row of a tile, which stays in the caches.
struct PerturbRowOp {
  static constexpr bool kFromRegisters = true;
  const float* base;
  float *plus, *minus;
  float epsilon;

  template <class L>
  HWY_INLINE void at(int64_t i, typename L::V z) const {
    const auto value = L::load(base + i);
    if (plus != nullptr) L::store(L::fma(L::set(epsilon), z, value), plus + i);
    if (minus != nullptr) L::store(L::fma(L::set(-epsilon), z, value), minus + i);
  }
};

// acc = (from_zero ? 0 : acc) + scalar z, times scale where `finish` says so.
struct AccumulateOp {
  static constexpr bool kFromRegisters = true;
  float* acc;
  float scalar, scale;
  bool from_zero, finish;

  template <class L>
  HWY_INLINE void at(int64_t i, typename L::V z) const {
    if (from_zero) prefetch(acc + i);
    auto sum = L::fma(L::set(scalar), z, from_zero ? L::set(0.0f) : L::load(acc + i));
    if (finish) sum = L::mul(sum, L::set(scale));
    L::store(sum, acc + i);
  }
};

template <class Op>
HWY_NOINLINE void for_values(const Op op, int64_t first, int64_t count, const float* z) {
  for_lanes(count, [=](auto lanes, int64_t i) HWY_ATTR {
    using L = decltype(lanes);
    op.template at<L>(first + i, L::load(z + i));
  });
}

// The noise of whole tiles goes from registers to the operation, unless that one needs them itself; other noise goes through a buffer.
template <class Op>
HWY_NOINLINE void for_normals(const NoiseKey& key, uint64_t first, int64_t count, const Op op) {
  for_tiles<kNoiseTile, NoiseTiles::kTilesTogether>(
      key, first, count, [&](const NoiseTiles& tiles, uint64_t tile, auto number, uint64_t skip, uint64_t n, uint64_t at) HWY_ATTR {
        constexpr int kNumber = decltype(number)::value;
        if (Op::kFromRegisters && n == kNumber * kNoiseTile) {
          return tiles.visit_normals<kNumber>(tile, [=](auto z, size_t i) HWY_ATTR { op.template at<Lanes>(at + i, z); });
        }
        alignas(64) float z[kNumber * kNoiseTile];
        tiles.normals<kNumber>(tile, z);
        for_values(op, at, n, z + skip);
      });
}
template <class Op>
HWY_NOINLINE void for_signs(const NoiseKey& key, uint64_t first, int64_t count, const Op op) {
  for_tiles<kNoiseSignTile, 1>(key, first, count,
                               [&](const NoiseTiles& tiles, uint64_t tile, auto, uint64_t skip, uint64_t n, uint64_t at) HWY_ATTR {
                                 alignas(64) float z[kNoiseSignTile];
                                 const uint64_t begin = skip / 16 * 16, end = (skip + n + 15) / 16 * 16;
                                 if (end - begin < kNoiseSignTile) {
                                   tiles.signs(tile, begin, end, z);
                                 } else {
                                   tiles.signs<1>(tile, z);
                                 }
                                 for_values(op, at, n, z + (skip - begin));
                               });
}
template <class Op>
void for_noise(NoiseKind kind, const NoiseKey& key, uint64_t first, int64_t count, const Op& op) {
  if (kind == NoiseKind::Gaussian) return for_normals(key, first, count, op);
  for_signs(key, first, count, op);
}

void perturb_target(const PerturbedPiece& piece, NoiseKind kind, const NoiseKey& key) {
  dispatch_types(piece, [&](auto base, auto target) HWY_ATTR {
    for_noise(kind, key, piece.first, piece.count, PerturbOp<decltype(base), decltype(target)>(piece));
  });
}
// What lies ahead in memory is the next row.
void perturb_tile_target(const PerturbedTile& tile, NoiseKind kind, const NoiseKey& key) {
  constexpr int64_t kRowsAhead = 2, kLine = 16;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const float* base = tile.base + r * tile.stride;
    for (int64_t i = 0; i < tile.columns && r + kRowsAhead < tile.rows; i += kLine) hwy::Prefetch(base + kRowsAhead * tile.stride + i);
    const auto target = [&](float* tile_target) { return tile_target == nullptr ? nullptr : tile_target + r * tile.columns; };
    const PerturbRowOp op{base, target(tile.plus), target(tile.minus), tile.epsilon};
    for_noise(kind, key, tile.first + static_cast<uint64_t>(r * tile.stride), tile.columns, op);
  }
}
void perturb_with_target(const PerturbedPiece& piece, const float* z) {
  dispatch_types(
      piece, [&](auto base, auto target) HWY_ATTR { for_values(PerturbOp<decltype(base), decltype(target)>(piece), 0, piece.count, z); });
}
void accumulate_target(float scalar, const float* z, int64_t count, float* acc) {
  for_values(AccumulateOp{acc, scalar, 1.0f, false, false}, 0, count, z);
}

// Of elements [at, at + count) with noise z[0..count).
int64_t count_target(const PerturbedPiece& piece, const float* z, int64_t at, int64_t count) {
  return dispatch_types(piece, [&](auto base, auto target) HWY_ATTR {
    using Base = decltype(base);
    using Target = decltype(target);
    int64_t unchanged = 0;
    for_lanes(count, [=, &unchanged, &piece](auto lanes, int64_t i) HWY_ATTR {
      using L = decltype(lanes);
      const auto value = load_at<Base, L>(piece.base, at + i);
      const auto moved = L::fma(L::set(piece.epsilon), L::load(z + i), value);
      unchanged += L::count_equal(rounded<Target, L>(moved), rounded<Target, L>(value));
    });
    return unchanged;
  });
}

// All directions for one block of elements after another: the sums stay in the first-level cache.
void estimate_target(NoiseKind kind, NoiseKey key, const uint32_t* directions, const float* scalars, int64_t num_directions, float scale,
                     uint64_t first, int64_t count, float* out) {
  constexpr uint64_t kBlock = 2 * kNoiseSignTile;
  const uint64_t end = first + static_cast<uint64_t>(count);
  for (uint64_t begin = first; begin < end;) {
    const uint64_t n = std::min(end - begin, kBlock - begin % kBlock);
    for (int64_t d = 0; d < num_directions; ++d) {
      key.stream = directions[d];
      const AccumulateOp op = {out + (begin - first), scalars[d], scale, d == 0, d + 1 == num_directions};
      for_noise(kind, key, begin, static_cast<int64_t>(n), op);
    }
    begin += n;
  }
}

// kRows rows of Z by kVectors vectors of columns.
template <class L, int kRows, int kVectors>
HWY_INLINE void low_rank_tile(const float* u, int64_t rank, const float* v, int64_t columns, float scale, float* out) {
  typename L::V sum[kRows][kVectors];
  for (auto& row : sum) {
    for (auto& part : row) part = L::set(0.0f);
  }
  for (int64_t k = 0; k < rank; ++k) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      const auto column = L::load(v + k * columns + j * L::kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sum[r][j] = L::fma(L::set(u[r * rank + k]), column, sum[r][j]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) L::store(L::mul(sum[r][j], L::set(scale)), out + r * columns + j * L::kLanes);
  }
}

// kRows rows by `width` columns.
template <int kRows>
HWY_INLINE void low_rank_rows(const float* u, int64_t rank, const float* v, int64_t columns, int64_t width, float scale, float* out) {
  constexpr int64_t kLanes = Lanes::kLanes;
  int64_t j = 0;
  for (; j + 2 * kLanes <= width; j += 2 * kLanes) low_rank_tile<Lanes, kRows, 2>(u, rank, v + j, columns, scale, out + j);
  for (; j + kLanes <= width; j += kLanes) low_rank_tile<Lanes, kRows, 1>(u, rank, v + j, columns, scale, out + j);
  for (; j < width; ++j) low_rank_tile<Scalar, kRows, 1>(u, rank, v + j, columns, scale, out + j);
}

// `rows` rows of Z, `columns` apart, by the first `width` columns of V^T; panels of V^T stay in the caches.
void low_rank_target(const float* u, int64_t rows, int64_t rank, const float* v, int64_t columns, int64_t width, float scale, float* out) {
  constexpr int64_t kPanel = 256, kRows = 4;
  for (int64_t j = 0; j < width; j += kPanel) {
    const int64_t panel = std::min(kPanel, width - j);
    int64_t r = 0;
    for (; r + kRows <= rows; r += kRows) low_rank_rows<kRows>(u + r * rank, rank, v + j, columns, panel, scale, out + r * columns + j);
    for (; r < rows; ++r) low_rank_rows<1>(u + r * rank, rank, v + j, columns, panel, scale, out + r * columns + j);
  }
}

template <class Rounding>
HWY_NOINLINE void round_block(const float* source, const uint32_t* random, int64_t count, uint16_t* target) {
  int64_t i = 0;
#if ZEROSTEP_FUSED_VECTORS
  const hn::Rebind<uint16_t, Vector::D> narrow;
  for (; i + Vector::kLanes <= count; i += Vector::kLanes) {
    prefetch(source + i);
    prefetch(target + i);
    const auto rounded = Rounding::round(Vector::load(source + i), hn::LoadU(Vector::U(), random + i));
    hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(Vector::I(), rounded)), narrow, target + i);
  }
#endif
  for (; i < count; ++i) store_any(Rounding::round(load_any(source + i), random[i]), target + i);
}

void round_target(const float* source, uint16_t* target, DType type, const NoiseKey& key, uint64_t first, int64_t count) {
  constexpr int kTogether = NoiseTiles::kTilesTogether;
  alignas(64) uint32_t random[kTogether * kNoiseTile];
  for_tiles<kNoiseTile, kTogether>(
      key, first, count, [&](const NoiseTiles& tiles, uint64_t tile, auto number, uint64_t skip, uint64_t n, uint64_t at) HWY_ATTR {
        tiles.bits<decltype(number)::value>(tile, random);
        if (type == DType::BF16) return round_block<StochasticBf16>(source + at, random + skip, static_cast<int64_t>(n), target + at);
        round_block<StochasticFp16>(source + at, random + skip, static_cast<int64_t>(n), target + at);
      });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(perturb_target);
HWY_EXPORT(perturb_tile_target);
HWY_EXPORT(count_target);
HWY_EXPORT(perturb_with_target);
HWY_EXPORT(accumulate_target);
HWY_EXPORT(estimate_target);
HWY_EXPORT(low_rank_target);
HWY_EXPORT(round_target);

void check_types(const PerturbedPiece& piece) {
  if (piece.base_type == DType::F64 || piece.target_type == DType::F64) {
    fail_protocol("host perturb: no perturbing of {} to {}", name_of(piece.base_type), name_of(piece.target_type));
  }
}

}  // namespace

void perturb(const PerturbedPiece& piece, NoiseKind kind, const NoiseKey& key) {
  check_types(piece);
  check_noise_range(key, piece.first, piece.count);
  HWY_DYNAMIC_DISPATCH(perturb_target)(piece, kind, key);
}

void perturb_tile(const PerturbedTile& tile, NoiseKind kind, const NoiseKey& key) {
  if (tile.columns > tile.stride) fail_protocol("host perturb: {} columns of rows of {}", tile.columns, tile.stride);
  check_noise_range(key, tile.first, tile.rows == 0 ? 0 : (tile.rows - 1) * tile.stride + tile.columns);
  HWY_DYNAMIC_DISPATCH(perturb_tile_target)(tile, kind, key);
}

int64_t count_unchanged(const PerturbedPiece& piece, NoiseKind kind, const NoiseKey& key) {
  check_types(piece);
  check_noise_range(key, piece.first, piece.count);
  float z[2048];
  int64_t unchanged = 0;
  for (int64_t at = 0; at < piece.count;) {
    const int64_t n = std::min<int64_t>(piece.count - at, std::size(z));
    (kind == NoiseKind::Gaussian ? fill_normal : fill_rademacher)(key, piece.first + static_cast<uint64_t>(at), n, z);
    unchanged += HWY_DYNAMIC_DISPATCH(count_target)(piece, z, at, n);
    at += n;
  }
  return unchanged;
}

void perturb_with(const PerturbedPiece& piece, const float* z) {
  check_types(piece);
  HWY_DYNAMIC_DISPATCH(perturb_with_target)(piece, z);
}

void accumulate_scaled(float scalar, const float* z, int64_t count, float* acc) {
  HWY_DYNAMIC_DISPATCH(accumulate_target)(scalar, z, count, acc);
}

void noise_estimate(NoiseKind kind, NoiseKey key, const uint32_t* directions, const float* scalars, int64_t num_directions, float scale,
                    uint64_t first, int64_t count, float* out) {
  for (int64_t d = 0; d < num_directions; ++d) {
    key.stream = directions[d];
    check_noise_range(key, first, count);
  }
  if (num_directions == 0) std::fill_n(out, count, scale * 0.0f);
  HWY_DYNAMIC_DISPATCH(estimate_target)(kind, key, directions, scalars, num_directions, scale, first, count, out);
}

LowRankDirection::LowRankDirection(const Shape& shape, uint64_t seed, uint64_t step, uint64_t refresh, uint32_t direction) : shape_(shape) {
  const auto [first, rows, columns, rank] = shape;
  const NoiseSource noise{NoiseKind::Gaussian, {.seed = seed, .step = step, .stream = direction}, rank, refresh};
  check_low_rank({first, rows, columns}, noise);
  u_key_ = low_rank_u_key(noise, direction);
  inv_sqrt_rank_ = static_cast<float>(1 / std::sqrt(static_cast<double>(rank)));
  const NoiseKey v_key = low_rank_v_key(noise, direction);
  std::vector<float> v(static_cast<size_t>(columns * rank));
  fill_normal(v_key, first, columns * rank, v.data());
  v_transposed_.resize(v.size());
  for (int64_t k = 0; k < rank; ++k) {
    for (int64_t j = 0; j < columns; ++j) nth(v_transposed_, k * columns + j) = nth(v, j * rank + k);
  }
}

void LowRankDirection::fill(int64_t begin, int64_t count, float* out) const {
  const auto [first, rows, columns, rank] = shape_;
  if (begin < 0 || count < 0 || count > rows * columns - begin) {
    fail_protocol("low rank: elements [{}, {} + {}) of a [{}, {}] tensor", begin, begin, count, rows, columns);
  }
  const int64_t end = begin + count, rows_together = std::max<int64_t>(4, 2048 / rank / 4 * 4);
  std::vector<float> u(static_cast<size_t>(rows_together * rank));
  while (begin < end) {
    const int64_t row = begin / columns, column = begin % columns;
    const int64_t whole_rows = column == 0 ? std::min((end - begin) / columns, rows_together) : 0;
    const int64_t num_rows = std::max<int64_t>(1, whole_rows);
    const int64_t width = whole_rows > 0 ? columns : std::min(columns - column, end - begin);
    fill_normal(u_key_, first + static_cast<uint64_t>(row * rank), num_rows * rank, u.data());
    HWY_DYNAMIC_DISPATCH(low_rank_target)
    (u.data(), num_rows, rank, v_transposed_.data() + column, columns, width, inv_sqrt_rank_, out);
    begin += num_rows * width;
    out += num_rows * width;
  }
}

void LowRankDirection::fill_u(float* out) const { fill_normal(u_key_, shape_.first, shape_.rows * shape_.rank, out); }

void round_stochastically(const float* source, void* target, DType target_type, const NoiseKey& key, uint64_t first, int64_t count) {
  if (!is_16bit(target_type)) fail_protocol("host perturb: no stochastic rounding to {}", name_of(target_type));
  NoiseKey rounding = key;
  rounding.tag = NoiseTag::Rounding;
  check_noise_range(rounding, first, count);
  HWY_DYNAMIC_DISPATCH(round_target)(source, static_cast<uint16_t*>(target), target_type, rounding, first, count);
}

}  // namespace zerostep
#endif
