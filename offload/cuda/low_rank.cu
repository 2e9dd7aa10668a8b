#include <algorithm>
#include <cmath>

#include "offload/cuda/low_rank.h"
#include "offload/cuda/put.cuh"

namespace zerostep::cuda {
namespace {

constexpr int64_t kMinSides = 64;  // rows and columns of the smallest rectangle together

// Element [direction, k, place] of both factors: of U^T for places below u_stride, of V^T behind them.
struct FactorBody {
  NoiseSource noise;
  uint64_t first;  // of the noise, the matrix's element 0
  int64_t rank, rows, row, column;
  uint32_t u_stride, width;
  int num_directions;
  float *u, *v;
  uint32_t numbers[kMaxDirections];

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const int64_t places = int64_t{u_stride} + width;
    for_jobs(index, num_directions * rank * places, [&](int64_t job) {
      const int64_t line = job / places, place = job % places, k = line % rank;
      const uint32_t number = numbers[line / rank];
      if (place < u_stride) {
        const int64_t at = row + place;
        u[line * u_stride + place] =
            at < rows ? noise_normal(low_rank_u_key(noise, number), first + static_cast<uint64_t>(at * rank + k)) : 0;
      } else {
        const int64_t at = column + place - u_stride;
        v[line * width + place - u_stride] = noise_normal(low_rank_v_key(noise, number), first + static_cast<uint64_t>(at * rank + k));
      }
    });
  }
};

// Both factors of a matrix for several branches, the left one times a scale and the branch's sign.
struct BranchBody {
  static constexpr int kMaxBranches = 1024;
  NoiseSource noise;
  uint64_t first;
  int64_t rank, rows, columns;
  float scale;
  bool is_perturbed;  // any of all branches is; else both factors are 0
  int num_branches;
  float *left, *right;
  int8_t signs[kMaxBranches];

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const int64_t left_size = rank * rows, right_size = rank * columns;
    for_jobs(index, left_size + right_size, [&](int64_t job) {
      const bool is_left = job < left_size;
      const int64_t at = is_left ? job : job - left_size, length = is_left ? rows : columns;
      const NoiseKey key = is_left ? low_rank_u_key(noise, noise.key.stream) : low_rank_v_key(noise, noise.key.stream);
      const float z = is_perturbed ? noise_normal(key, first + static_cast<uint64_t>(at % length * rank + at / length)) : 0.0f;
      for (int b = 0; b < num_branches; ++b) {
        if (is_left)
          left[b * left_size + at] = signs[b] == 0 ? 0.0f : signs[b] > 0 ? ieee_mul(scale, z) : -ieee_mul(scale, z);
        else
          right[b * right_size + at] = z;
      }
    });
  }
};

}  // namespace

int directions_together(const ParameterPiece& piece, const NoiseSource& noise) {
  if (!noise.is_low_rank(piece)) return kMaxDirections;
  return static_cast<int>(std::clamp<int64_t>(kScratchFactors / (noise.rank * kMinSides), 1, kMaxDirections));
}

std::vector<Rectangle> rectangles_of(const ParameterPiece& piece, int64_t rank, int64_t num_directions) {
  std::vector<Rectangle> all;
  if (piece.count == 0) return all;
  const int64_t end = piece.begin + piece.count, columns = piece.columns;
  const int64_t first_row = piece.begin / columns, end_row = (end - 1) / columns + 1;
  const bool is_one_row = first_row + 1 == end_row;
  const int64_t first_column = is_one_row ? piece.begin % columns : 0, end_column = is_one_row ? (end - 1) % columns + 1 : columns;
  const int64_t sides = kScratchFactors / (rank * num_directions), height_of_all = round_up(end_row - first_row, 4);
  const int64_t width = std::min(end_column - first_column, std::max(sides / 2, sides - height_of_all));
  const int64_t height = std::max<int64_t>(4, std::min(height_of_all, std::min(sides - width, (int64_t{1} << 32) / width) / 4 * 4));
  for (int64_t row = first_row; row < end_row; row += height)
    for (int64_t column = first_column; column < end_column; column += width)
      all.push_back({columns, row, column, static_cast<uint32_t>(std::min(height, end_row - row)),
                     static_cast<uint32_t>(std::min(width, end_column - column)), piece.begin, piece.count});
  return all;
}

LowRank draw_factors(Queue& queue, const ParameterPiece& piece, const NoiseSource& noise, std::span<const uint32_t> numbers,
                     const Rectangle& rectangle) {
  const auto n = static_cast<int64_t>(numbers.size());
  const auto u_stride = static_cast<uint32_t>(round_up(rectangle.height, 4));
  float* const v = queue.factors + n * noise.rank * u_stride;
  FactorBody body{
      noise,         piece.first, noise.rank, piece.rows, rectangle.row, rectangle.column, u_stride, rectangle.width, static_cast<int>(n),
      queue.factors, v,           {}};
  std::copy(numbers.begin(), numbers.end(), body.numbers);
  put(queue, n * noise.rank * (u_stride + int64_t{rectangle.width}), body);
  return {queue.factors, v, static_cast<int32_t>(noise.rank), u_stride, static_cast<float>(1 / std::sqrt(static_cast<double>(noise.rank)))};
}

void low_rank_factors(Queue& queue, const LowRankFactors& factors) {
  const int64_t rank = factors.noise.rank, rows = factors.piece.rows, columns = factors.piece.columns;
  const auto scale = static_cast<float>(factors.epsilon / std::sqrt(static_cast<double>(rank)));
  const bool is_perturbed = std::any_of(factors.signs.begin(), factors.signs.end(), [](int sign) { return sign != 0; });
  const auto total = static_cast<int64_t>(factors.signs.size());
  for (int64_t begin = 0; begin < total; begin += BranchBody::kMaxBranches) {
    BranchBody body{factors.noise, factors.piece.first, rank, rows, columns, scale, is_perturbed, 0, nullptr, nullptr, {}};
    body.num_branches = static_cast<int>(std::min<int64_t>(BranchBody::kMaxBranches, total - begin));
    body.left = factors.left + begin * rank * rows;
    body.right = factors.right + begin * rank * columns;
    for (int b = 0; b < body.num_branches; ++b) {
      const int sign = factors.signs[static_cast<size_t>(begin + b)];
      body.signs[b] = static_cast<int8_t>((sign > 0) - (sign < 0));
    }
    put(queue, rank * (rows + columns), body);
  }
}

}  // namespace zerostep::cuda
