#pragma once
#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "base/noise.h"
#include "offload/flat_operands.h"

namespace zerostep {

// What zeroth-order training does to a contiguous piece of parameters on the host. As in host_optimizer.h: one fixed IEEE sequence per
// element, the same bits on every dispatch target, for any piece and any split; pointers of any alignment; nothing blocks.

// plus = round(fma(epsilon, z, base)), minus = round(fma(-epsilon, z, base)): fp32 arithmetic, then one rounding to nearest even to
// target_type. The noise z stays in the first-level cache.
void perturb(const PerturbedPiece& piece, NoiseKind kind, const NoiseKey& key);

// As perturb() for fp32, bit by bit. For tiles that stay in a core's caches until they have been used.
void perturb_tile(const PerturbedTile& tile, NoiseKind kind, const NoiseKey& key);

// How many elements keep their value: round(fma(epsilon, z, base)) == round(base), where a NaN equals nothing. Writes nothing.
int64_t count_unchanged(const PerturbedPiece& piece, NoiseKind kind, const NoiseKey& key);

// out[i] = scale * sum over d of scalars[d] * z_d[i], summed by fma in fp32 in the order of d from 0. z_d is the noise of `key` with
// directions[d] as its stream.
void noise_estimate(NoiseKind kind, NoiseKey key, const uint32_t* directions, const float* scalars, int64_t num_directions, float scale,
                    uint64_t first, int64_t count, float* out);

// The steps of perturb() and noise_estimate() for values z[count] that the caller has made. acc[i] = fma(scalar, z[i], acc[i]).
void perturb_with(const PerturbedPiece& piece, const float* z);
void accumulate_scaled(float scalar, const float* z, int64_t count, float* acc);

// A direction Z = U V^T / sqrt(rank) of one [rows, columns] tensor (LOZO, arXiv 2410.07698), summed over k by fma in order from 0, then
// multiplied once by the fp32 value of 1 / sqrt(rank).
// U[row, k] = normal of (seed, LowRankU, step, direction) at element first + row * rank + k;
// V[column, k] = normal of (seed, LowRankV, step / refresh, direction) at element first + column * rank + k.
// rank is at most min(rows, columns): the elements of U and V then stay within the tensor's own range.
class LowRankDirection {
 public:
  struct Shape {
    uint64_t first;  // global element index of the tensor
    int64_t rows, columns, rank;
  };
  LowRankDirection(const Shape& shape, uint64_t seed, uint64_t step, uint64_t refresh, uint32_t direction);

  void fill(int64_t begin, int64_t count, float* out) const;                // row-major elements [begin, begin + count) of Z
  void fill_u(float* out) const;                                            // [rows, rank]
  const std::vector<float>& v_transposed() const { return v_transposed_; }  // [rank, columns]

 private:
  Shape shape_;
  NoiseKey u_key_;
  float inv_sqrt_rank_;
  std::vector<float> v_transposed_;
};

// Rounds to bf16 or fp16, unbiased: away from zero with the probability of the discarded fraction, decided by the upper bits of the 32
// that belong to the element under `key` with tag Rounding. Exact probabilities but for fp16 below 2^-33, rounded down to a multiple of
// 2^-32. Representable values, infinities and NaN stay; the step up from the largest finite value is infinity.
void round_stochastically(const float* source, void* target, DType target_type, const NoiseKey& key, uint64_t first, int64_t count);

}  // namespace zerostep
