#pragma once
#include <cstdint>

#include "base/dtype.h"
#include "base/ieee.h"
#include "base/noise.h"

namespace zerostep {

// What kernels over flat arrays are given: values without behaviour, which a kernel can read on a device.

// Elements [begin, begin + count) of one parameter, row-major.
struct ParameterPiece {
  uint64_t first = 0;             // global index of the parameter's element 0
  int64_t rows = 0, columns = 0;  // of a matrix; 0 of any other shape
  int64_t begin = 0, count = 0;
};

enum class NoiseKind : uint8_t { Gaussian, Rademacher };

// The noise z of random directions; key.stream is a direction's number.
struct NoiseSource {
  NoiseKind kind = NoiseKind::Gaussian;
  NoiseKey key = {};
  int64_t rank = 0;      // of what a direction is of a matrix (LowRankDirection); 0: full
  uint64_t refresh = 1;  // steps that one V serves

  bool is_low_rank(const ParameterPiece& piece) const { return rank > 0 && piece.rows > 0; }
};

// Which entries of the backprop gradient instruct a direction: none, all of them, or those of at least `threshold`.
struct GradientEntries {
  enum class Which : uint8_t { None, All, Largest } which = Which::None;
  float threshold = 0;  // of magnitudes

  ZEROSTEP_HOST_DEVICE bool keeps(float g) const { return !(g < threshold && -g < threshold); }
};

// d = z, or, instructed by the gradient g: a g + b z of all entries; a g of the largest and b z elsewhere.
struct Direction {
  NoiseSource noise;
  GradientEntries entries;
  float gradient_weight = 0, noise_weight = 1;  // a, b
};

// e = scale * sum over d of scalars[d] * z_d, summed by fma in fp32 in the order of d from 0; z_d is the noise with numbers[d] as its
// stream. Instructed: a g + that sum of all entries; a g of the largest and the sum elsewhere; and `blended_weight` g everywhere.
struct NoiseEstimate {
  NoiseSource noise;
  const uint32_t* numbers = nullptr;  // num_directions each
  const float* scalars = nullptr;
  int64_t num_directions = 0;
  float scale = 1;
  GradientEntries entries;
  float gradient_weight = 0, blended_weight = 0;  // a, and the share of the backprop gradient
};

// The gradient of an update: the reduced one, or an estimate.
struct Gradient {
  enum class Kind : uint8_t { Reduced, Estimate } kind = Kind::Reduced;
  const float* reduced = nullptr;  // fp32, from the piece's first element on; an estimate reads it where it is instructed
  NoiseEstimate estimate = {};
};

struct PerturbedPiece {
  const void* base = nullptr;  // count values of base_type: fp32 masters, or 16-bit weights
  DType base_type = DType::F32;
  void* plus = nullptr;  // count values of target_type each; either may be nullptr; neither may alias base
  void* minus = nullptr;
  DType target_type = DType::F32;
  uint64_t first = 0;  // global element index of base[0]
  int64_t count = 0;
  float epsilon = 0;
};

// A tile of an fp32 matrix: `columns` elements of each of `rows` rows, which lie `stride` elements apart.
struct PerturbedTile {
  const float* base = nullptr;  // the first row's first element
  int64_t rows = 0, columns = 0, stride = 0;
  float *plus = nullptr, *minus = nullptr;  // rows * columns each, rows close together; either may be nullptr
  uint64_t first = 0;                       // global element index of base[0]
  float epsilon = 0;
};

// What is common to every optimizer: masters in, masters out, and a copy in the compute type.
struct OptimizerPiece {
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

// torch.optim.SGD: buf = first ? g : momentum * buf + (1 - dampening) * g; d = nesterov ? g + momentum * buf : buf. momentum 0: no buffer.
struct SgdParameters {
  double momentum, dampening;
  bool nesterov, first_step;
};

// Lion (arXiv 2302.06675): u = sign(b1 m + (1-b1) g); p = p (1 - lr wd) - lr u; m = b2 m + (1-b2) g.
struct LionParameters {
  double beta1, beta2;
};

}  // namespace zerostep
