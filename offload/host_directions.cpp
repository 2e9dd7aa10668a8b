#include "offload/host_directions.h"

#include <algorithm>

#include "base/nth.h"
#include "offload/flat_math.h"

namespace zerostep {
namespace {

using Which = GradientEntries::Which;

LowRankDirection low_rank_direction(const ParameterPiece& piece, const NoiseSource& noise, uint32_t number) {
  return LowRankDirection({piece.first, piece.rows, piece.columns, noise.rank}, noise.key.seed, noise.key.step, noise.refresh, number);
}

}  // namespace

NoiseReader::NoiseReader(const ParameterPiece& piece, const NoiseSource& noise) : first_(piece.first), noise_(noise) {
  if (noise.is_low_rank(piece)) low_rank_.emplace(low_rank_direction(piece, noise, noise.key.stream));
}

void NoiseReader::read(int64_t begin, int64_t count, float* out) const {
  if (low_rank_)
    low_rank_->fill(begin, count, out);
  else if (noise_.kind == NoiseKind::Rademacher)
    fill_rademacher(noise_.key, first_ + static_cast<uint64_t>(begin), count, out);
  else
    fill_normal(noise_.key, first_ + static_cast<uint64_t>(begin), count, out);
}

void instruct(const Direction& direction, const float* gradient, int64_t count, float* z) {
  const float a = direction.gradient_weight, b = direction.noise_weight;
  if (direction.entries.which == Which::Largest)
    for (int64_t i = 0; i < count; ++i) z[i] = split_direction(direction.entries, a, b, gradient[i], z[i]);
  else
    for (int64_t i = 0; i < count; ++i) z[i] = mixed_direction(a, b, gradient[i], z[i]);
}

EstimateReader::EstimateReader(const ParameterPiece& piece, const NoiseEstimate& estimate) : first_(piece.first), estimate_(estimate) {
  if (!estimate.noise.is_low_rank(piece)) return;
  for (int64_t d = 0; d < estimate.num_directions; ++d) low_rank_.push_back(low_rank_direction(piece, estimate.noise, estimate.numbers[d]));
}

void EstimateReader::read(int64_t begin, int64_t count, const float* reduced, float* out) const {
  if (estimate_.entries.which == Which::None) return read_noise(begin, count, out);
  float noise[kBlockElements];
  for (int64_t at = 0; at < count; at += kBlockElements) {
    const int64_t n = std::min(kBlockElements, count - at);
    read_noise(begin + at, n, noise);
    for (int64_t i = 0; i < n; ++i)
      out[at + i] = instructed_estimate(estimate_.entries, estimate_.gradient_weight, estimate_.blended_weight, reduced[at + i], noise[i]);
  }
}

void EstimateReader::read_noise(int64_t begin, int64_t count, float* out) const {
  if (low_rank_.empty()) {
    noise_estimate(estimate_.noise.kind, estimate_.noise.key, estimate_.numbers, estimate_.scalars, estimate_.num_directions,
                   estimate_.scale, first_ + static_cast<uint64_t>(begin), count, out);
    return;
  }
  float z[kBlockElements];
  for (int64_t at = 0; at < count; at += kBlockElements) {
    const int64_t n = std::min(kBlockElements, count - at);
    std::fill_n(out + at, n, 0.0f);
    for (int64_t d = 0; d < estimate_.num_directions; ++d) {
      nth(low_rank_, d).fill(begin + at, n, z);
      accumulate_scaled(estimate_.scalars[d], z, n, out + at);
    }
    for (int64_t j = 0; j < n; ++j) out[at + j] *= estimate_.scale;
  }
}

}  // namespace zerostep
