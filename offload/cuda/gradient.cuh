#pragma once
#include <algorithm>
#include <cstdint>
#include <span>
#include <type_traits>

#include "offload/cuda/put.cuh"

namespace zerostep::cuda {

// A gradient as kernels are given it: the reduced one, or the sum over some of the directions of an estimate, to which those before have
// been added.
struct Sum {
  bool is_estimate = false, is_last = true;
  const float* reduced = nullptr;
  const float* before = nullptr;  // nullptr: 0
  float scale = 1;
  GradientEntries entries;
  float gradient_weight = 0, blended_weight = 0;
  int num_directions = 0;
  uint32_t numbers[kMaxDirections];
  float scalars[kMaxDirections];

  Sum() = default;
  explicit Sum(const float* reduced_gradient) : reduced(reduced_gradient) {}
  // Directions [begin, begin + count) of an estimate.
  Sum(const NoiseEstimate& estimate, const float* reduced_gradient, int64_t begin, int64_t count)
      : is_estimate(true),
        is_last(begin + count == estimate.num_directions),
        reduced(reduced_gradient),
        scale(estimate.scale),
        entries(estimate.entries),
        gradient_weight(estimate.gradient_weight),
        blended_weight(estimate.blended_weight),
        num_directions(static_cast<int>(count)) {
    std::copy_n(estimate.numbers + begin, count, numbers);
    std::copy_n(estimate.scalars + begin, count, scalars);
  }
  std::span<const uint32_t> numbers_of_all() const { return {numbers, static_cast<size_t>(num_directions)}; }
};

template <class Cells>
bool is_aligned(const Sum& sum, const Cells& cells) {
  return are_vectors_aligned(cells, sum.reduced, DType::F32) && are_vectors_aligned(cells, sum.before, DType::F32);
}

template <class Source>
struct GradientValues {
  using Cells = typename Source::Cells;
  Source source;
  Cells cells;
  Sum sum;

  // The sum over the directions of a job's elements, which is 0 before.
  template <bool kWhole>
  ZEROSTEP_HOST_DEVICE void add_directions(int64_t job, int64_t first, float* total) const {
    if constexpr (!std::is_same_v<Source, NoNoise>) {
      if (!sum.is_estimate) return;
      if (sum.before != nullptr) load_as<AsF32, kWhole, Cells::kVectors>(cells, first, 0, sum.before, total);
      for (int d = 0; d < sum.num_directions; ++d) {
        float z[kNumElements<Cells>];
        source.fill(cells, job, d, sum.numbers[d], z);
#pragma unroll
        for (int n = 0; n < kNumElements<Cells>; ++n) total[n] = ieee_fma(sum.scalars[d], z[n], total[n]);
      }
    }
  }
  // The gradient of kTaken vectors of the job from vector v on, of which `total` is that sum; unscaled unless its directions are the last.
  template <bool kWhole, int kTaken>
  ZEROSTEP_HOST_DEVICE void fill(int64_t first, int v, const float* total, float* gradient) const {
    const bool is_instructed = sum.entries.which != GradientEntries::Which::None;
    if (!sum.is_estimate || (is_instructed && sum.is_last)) load_as<AsF32, kWhole, kTaken>(cells, first, v, sum.reduced, gradient);
    if (!sum.is_estimate) return;
#pragma unroll
    for (int n = 0; n < kTaken * Cells::kWidth; ++n) {
      const float noise = sum.is_last ? ieee_mul(total[n], sum.scale) : total[n];
      gradient[n] = is_instructed && sum.is_last
                        ? instructed_estimate(sum.entries, sum.gradient_weight, sum.blended_weight, gradient[n], noise)
                        : noise;
    }
  }
};

}  // namespace zerostep::cuda
