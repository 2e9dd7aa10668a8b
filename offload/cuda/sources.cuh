#pragma once
#include <cstdint>

#include "offload/cuda/cells.cuh"
#include "offload/flat_math.h"

namespace zerostep::cuda {

// Noise of one of several directions, a job's elements at a time: fill(cells, job, d, number, z) makes z of direction `number`, the d-th.

struct NoNoise {
  using Cells = Neighbours;
};

struct Normals {
  using Cells = NormalTiles;
  NoiseKey key;

  ZEROSTEP_HOST_DEVICE void fill(const NormalTiles& cells, int64_t job, int, uint32_t number, float* z) const {
    NoiseKey k = key;
    k.stream = number;
    const uint64_t block = cells.block(job);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const PhiloxBlock words = noise_block(k, block + static_cast<uint64_t>(c));
      const NormalPair lower = normal_pair(words.word[0], words.word[1]), upper = normal_pair(words.word[2], words.word[3]);
      z[c] = lower.first;
      z[4 + c] = lower.second;
      z[8 + c] = upper.first;
      z[12 + c] = upper.second;
    }
  }
};

struct Signs {
  using Cells = SignTiles;
  NoiseKey key;

  ZEROSTEP_HOST_DEVICE void fill(const SignTiles& cells, int64_t job, int, uint32_t number, float* z) const {
    NoiseKey k = key;
    k.stream = number;
    const uint32_t word = noise_word(noise_block(k, cells.block(job)), static_cast<uint64_t>(SignTiles::word(job)));
#pragma unroll
    for (int n = 0; n < 32; ++n) z[n] = float_of_bits((word << n & 0x80000000u) | 0x3F800000u);
  }
};

// Z = U V^T / sqrt(rank), from factors that lie in memory: of each direction rank rows of U^T for the rectangle's rows, then of V^T for its
// columns.
struct LowRank {
  using Cells = Rectangle;
  const float *u, *v;
  int32_t rank;
  uint32_t u_stride;  // a row of U^T in elements, a multiple of 4
  float scale;        // 1 / sqrt(rank)

  ZEROSTEP_HOST_DEVICE void fill(const Rectangle& cells, int64_t job, int d, uint32_t, float* z) const {
    const uint32_t quad = cells.quad(job), place = cells.place(job);
    float sum[4] = {0, 0, 0, 0};
    const float* rows = u + static_cast<int64_t>(d) * rank * u_stride + 4 * quad;
    const float* columns = v + static_cast<int64_t>(d) * rank * cells.width + place;
    for (int k = 0; k < rank; ++k) {
      const float4 four = *reinterpret_cast<const float4*>(rows);
      const float column = *columns;
      sum[0] = ieee_fma(four.x, column, sum[0]);
      sum[1] = ieee_fma(four.y, column, sum[1]);
      sum[2] = ieee_fma(four.z, column, sum[2]);
      sum[3] = ieee_fma(four.w, column, sum[3]);
      rows += u_stride;
      columns += cells.width;
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) z[r] = ieee_mul(sum[r], scale);
  }
};

}  // namespace zerostep::cuda
