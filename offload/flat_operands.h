#pragma once
#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "base/dtype.h"
#include "base/ieee.h"
#include "base/noise.h"

namespace zerostep {

// What kernels over flat arrays are given: values without behaviour.

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

// One parameter, or a piece of it, to be perturbed. `values`: from where to where; first, count and epsilon are not read.
struct Perturbation {
  ParameterPiece piece;
  PerturbedPiece values;
  const float* gradient = nullptr;  // reduced, from the piece's first element on; read where the direction is instructed
};

// What branches along one low-rank direction add to a matrix: branch b gets left [rank, rows] and right [rank, columns], so that left'
// right is signs[b] epsilon z. A sign is 1, -1, or 0 of a branch that is not perturbed.
struct LowRankFactors {
  ParameterPiece piece;  // the whole matrix
  NoiseSource noise;
  double epsilon = 0;
  std::vector<int> signs;
  float *left = nullptr, *right = nullptr;  // branch after branch
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

using OptimizerFormula = std::variant<AdamParameters, SgdParameters, LionParameters>;
// One update of a piece; pointers are of its first element.
struct PieceUpdate {
  ParameterPiece piece;
  Gradient gradient;
  float* masters = nullptr;    // fp32, updated in place; nullptr: 16-bit parameters go without and are rounded stochastically
  void* parameters = nullptr;  // of `type`: the masters rounded to nearest even; nullptr: the masters are the parameters
  DType type = DType::F32;
  std::array<float*, 2> states = {};  // fp32 arrays, as many as the formula has
  float gradient_scale = 1, lr = 0, weight_decay = 0;
  NoiseKey rounding = {};
};

// Moments of a matrix that is updated whole, and its direction before it is made orthogonal: momentum (Muon), or the quotient of both
// moments (MuDaMW), in which a cautious update leaves out entries whose sign the gradient does not have; the larger the share that is left
// out, the longer the step along the rest, where it rescales. `count` fp32 values each.
struct MatrixMoments {
  const float* gradient = nullptr;
  float *first_moment = nullptr, *second_moment = nullptr;  // Muon has no second
  float* direction = nullptr;                               // may be the gradient
  int64_t count = 0;
  float gradient_scale = 1;
  double beta1 = 0, beta2 = 0, eps = 0;
  bool nesterov = false, cautious = false, rescales = false;
};

// Bins of squares by magnitude, and by how many bits a value's lie above bit 0 in the coarse ones and in the fine ones.
constexpr int kEnergyBins = 4096, kCoarseShift = 19, kFineShift = 7;

}  // namespace zerostep
