#pragma once
#include <cstdint>

#include "base/dtype.h"

namespace zerostep {

// Fused optimizer steps over a contiguous slice of fp32 masters, on the host. One fixed IEEE sequence per element (explicit FMA, no
// contraction): the same bits in the SIMD body, its tail, every dispatch target (AVX-512, AVX2, scalar), any split into slices and any
// thread. All pointers may be of any alignment; slices may have any length. Nothing is allocated; nothing blocks. With lr 0 the masters
// keep their bits, whatever the gradient; moments are updated all the same.

// What is common to every optimizer: masters in, masters out, and a copy in the compute type.
struct OptimizerSlice {
  float* master;            // count values, updated in place
  const float* gradient;    // count values, read once
  void* compute = nullptr;  // count values of compute_type written with round-to-nearest-even, or nullptr; must not alias master
  DType compute_type = DType::F32;
  int64_t count = 0;
  float gradient_scale = 1.0f;  // folded in first: averaging, loss scale and clipping in one factor
  float lr = 0;
  float weight_decay = 0;
};

// torch.optim.Adam / AdamW's arithmetic. decoupled: AdamW (p *= 1 - lr wd); else L2 (g += wd p).
// step_size = lr / bias_correction1 and inv_sqrt_bias_correction2 = 1 / sqrt(1 - beta2^t) are worked out in double by the caller.
struct AdamParameters {
  double beta1, beta2, eps, step_size, inv_sqrt_bias_correction2;  // 1 - beta is worked out in double, then rounded to fp32
  bool decoupled;
};
void adam_step(const OptimizerSlice& slice, float* exp_avg, float* exp_avg_sq, const AdamParameters& parameters);

// torch.optim.SGD: buf = first ? g : momentum * buf + (1 - dampening) * g; d = nesterov ? g + momentum * buf : buf. momentum 0: no buffer.
struct SgdParameters {
  double momentum, dampening;
  bool nesterov, first_step;
};
void sgd_step(const OptimizerSlice& slice, float* momentum_buffer, const SgdParameters& parameters);

// Lion (arXiv 2302.06675): u = sign(b1 m + (1-b1) g); p = p (1 - lr wd) - lr u; m = b2 m + (1-b2) g.
struct LionParameters {
  double beta1, beta2;
};
void lion_step(const OptimizerSlice& slice, float* exp_avg, const LionParameters& parameters);

// Sum of squares, in at least 16 fp64 lanes folded in a fixed order: depends on the values and on count alone. Inf or NaN anywhere in
// the input gives a non-finite sum.
double sum_of_squares(const float* values, int64_t count);

// Casts between fp32 and a 16-bit type, round to nearest even; NaN stays NaN.
void cast_from_fp32(const float* source, void* target, DType target_type, int64_t count);
void cast_to_fp32(const void* source, DType source_type, float* target, int64_t count);

// The instruction set that the dispatch has chosen: "AVX3_SPR", "AVX2", "SCALAR"...
const char* host_optimizer_target();

}  // namespace zerostep
