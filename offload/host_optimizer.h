#pragma once
#include <cstdint>

#include "base/dtype.h"
#include "offload/flat_operands.h"

namespace zerostep {

// Fused optimizer steps over a contiguous piece of fp32 masters, on the host. One fixed IEEE sequence per element (explicit FMA, no
// contraction): the same bits in the SIMD body, its tail, every dispatch target (AVX-512, AVX2, scalar), any split into pieces and any
// thread. All pointers may be of any alignment; pieces may have any length. Nothing is allocated; nothing blocks. With lr 0 the masters
// keep their bits, whatever the gradient; moments are updated all the same.

void adam_step(const OptimizerPiece& piece, float* exp_avg, float* exp_avg_sq, const AdamParameters& parameters);
void sgd_step(const OptimizerPiece& piece, float* momentum_buffer, const SgdParameters& parameters);
void lion_step(const OptimizerPiece& piece, float* exp_avg, const LionParameters& parameters);

// Sum of squares, in at least 16 fp64 lanes folded in a fixed order: depends on the values and on count alone. Inf or NaN anywhere in
// the input gives a non-finite sum.
double sum_of_squares(const float* values, int64_t count);

// Casts between fp32 and a 16-bit type, round to nearest even; NaN stays NaN.
void cast_from_fp32(const float* source, void* target, DType target_type, int64_t count);
void cast_to_fp32(const void* source, DType source_type, float* target, int64_t count);

// The instruction set that the dispatch has chosen: "AVX3_SPR", "AVX2", "SCALAR"...
const char* host_optimizer_target();

}  // namespace zerostep
