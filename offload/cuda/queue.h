#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "offload/flat_operands.h"

namespace zerostep::cuda {

// A stream's scratch memory: partial sums, of which one row has at most kMaxLanes, and sums of them; then the factors of directions of low
// rank, the sum over some of an estimate's directions, and its values.
constexpr int64_t kMaxLanes = int64_t{1} << 17, kScratchSums = int64_t{1} << 19, kScratchFoldedSums = kScratchSums / 32;
constexpr int64_t kScratchFactors = int64_t{1} << 20, kScratchPart = int64_t{1} << 19;
constexpr int64_t kSumScratchBytes = (kScratchSums + kScratchFoldedSums) * 8, kPartScratchBytes = (kScratchFactors + 2 * kScratchPart) * 4;

// Where kernels are queued: a stream of the current device. The scratch memory is the stream's own, so that what follows on the stream may
// use it again. After an error nothing more is queued.
struct Queue {
  cudaStream_t stream = nullptr;
  unsigned max_blocks = 1;  // more do not make a kernel quicker
  double *sums = nullptr, *folded_sums = nullptr;
  float *factors = nullptr, *partial_estimate = nullptr, *estimate = nullptr;
  cudaError_t error = cudaSuccess;
};

// One direction's scalar each. The most that one kernel is given: its arguments are at most 4 KiB.
constexpr int kMaxDirections = 384;

// The operations of FlatKernels, whose operands have been checked.
void cast(Queue& queue, const void* source, DType source_type, void* target, DType target_type, int64_t count);
void add(Queue& queue, const float* source, float* target, int64_t count);
void scale(Queue& queue, float factor, float* values, int64_t count);
void draw(Queue& queue, const ParameterPiece& piece, const NoiseSource& noise, float* out);
void perturb(Queue& queue, std::span<const Perturbation> perturbations, const Direction& direction, float epsilon);
void low_rank_factors(Queue& queue, const LowRankFactors& factors);
void count_unchanged(Queue& queue, const PerturbedPiece& piece, const NoiseSource& noise, int64_t* unchanged);
void estimate(Queue& queue, const ParameterPiece& piece, const Gradient& gradient, float* out);
void update(Queue& queue, const PieceUpdate& given, const OptimizerFormula& formula);
void matrix_direction(Queue& queue, const MatrixMoments& moments);
void add_squares(Queue& queue, const float* values, int64_t count, double* sum);
void add_gradient_sums(Queue& queue, const ParameterPiece& piece, const Gradient& gradient, double* sums);
void add_direction_sums(Queue& queue, const ParameterPiece& piece, const NoiseSource& noise, int64_t num_directions,
                        const GradientEntries& entries, const float* g, double* sums);
void add_energy(Queue& queue, const float* values, int64_t count, int coarse_bin, double* bins);
// to = from / (the root of *sum_of_squares + epsilon), rounded to fp32 as a factor.
void normalise(Queue& queue, const float* from, const double* sum_of_squares, double epsilon, float* to, int64_t count);

}  // namespace zerostep::cuda
