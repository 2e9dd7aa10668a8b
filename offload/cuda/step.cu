#include <algorithm>
#include <array>
#include <variant>

#include "offload/cuda/gradient.cuh"
#include "offload/cuda/lane.cuh"
#include "offload/rounding_math.h"

namespace zerostep::cuda {
namespace {

// What is done with an element of a gradient: an optimizer's step, or it is written.
enum class Formula : uint8_t { AdamW, Adam, Sgd, Momentum, Lion, Write };
union Coefficients {
  Coefficients() {}
  math::Adam<true> adamw;
  math::Adam<false> adam;
  math::Sgd sgd;
  math::SgdMomentum momentum;
  math::Lion lion;
};

struct Step {
  Formula formula = Formula::Write;
  Coefficients coefficients;
  bool is_frozen = false;
  bool is_rounded = false;  // there are no masters
  bool is_aligned = false;
  DType type = DType::F32;
  float* masters = nullptr;
  void* parameters = nullptr;  // or where the gradient is written
  float *state0 = nullptr, *state1 = nullptr;
  float gradient_scale = 1;
  NoiseKey rounding;
};

// The words with which kNumber vectors of a job, from vector v on, are rounded.
template <int kNumber>
ZEROSTEP_HOST_DEVICE inline void fill_rounding(const NormalTiles& cells, int64_t job, int v, const NoiseKey& key, uint32_t* words) {
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const PhiloxBlock block = noise_block(key, cells.block(job) + static_cast<uint64_t>(c));
#pragma unroll
    for (int n = 0; n < kNumber; ++n) words[4 * n + c] = block.word[v + n];
  }
}
template <int kNumber>
ZEROSTEP_HOST_DEVICE inline void fill_rounding(const SignTiles& cells, int64_t job, int v, const NoiseKey& key, uint32_t* words) {
  static_assert(kNumber % 4 == 0);  // elements 16 apart within tiles of 64 are the words of one block
  const uint64_t element = cells.element + static_cast<uint64_t>(cells.first(job)) + static_cast<uint64_t>(v) * 16;
#pragma unroll
  for (int n = 0; n < kNumber; n += 4) {
    const uint64_t at = element + static_cast<uint64_t>(n) * 16;
    const PhiloxBlock block = noise_block(key, at / kNoiseTile * kNoiseBlocksPerTile + at % 16);
#pragma unroll
    for (int k = 0; k < 4; ++k) words[n + k] = block.word[k];
  }
}

template <class Source>
struct StepBody {
  using Cells = typename Source::Cells;
  static constexpr int kTaken = kTogether<Cells>, kElements = kTaken * Cells::kWidth;

  GradientValues<Source> given;
  uint64_t element;  // of the noise, the array's element 0
  Step step;

  ZEROSTEP_HOST_DEVICE void operator()(const ThreadIndex& index) const {
    const Cells& cells = given.cells;
    for_jobs(index, cells.num_jobs(), [&](int64_t job) {
      with_wholeness(cells, job, step.is_aligned, [&](auto whole, int64_t first) {
        constexpr bool kWhole = decltype(whole)::value;
        float total[kNumElements<Cells>] = {};
        given.template add_directions<kWhole>(job, first, total);
#pragma unroll
        for (int v = 0; v < Cells::kVectors; v += kTaken) take<kWhole>(job, first, v, total + v * Cells::kWidth);
      });
    });
  }

 private:
  template <bool kWhole>
  ZEROSTEP_HOST_DEVICE void take(int64_t job, int64_t first, int v, const float* total) const {
    float gradient[kElements] = {};
    given.template fill<kWhole, kTaken>(first, v, total, gradient);
    if (step.formula == Formula::Write) return store_as<AsF32, kWhole, kTaken>(given.cells, first, v, gradient, step.parameters);
    advance<kWhole>(job, first, v, gradient);
  }

  template <bool kWhole>
  ZEROSTEP_HOST_DEVICE void advance(int64_t job, int64_t first, int v, float* gradient) const {
    const Cells& cells = given.cells;
    float p[kElements], s0[kElements] = {}, s1[kElements] = {};
    if (step.is_rounded)
      load<kWhole, kTaken>(cells, first, v, step.parameters, step.type, p);
    else
      load_as<AsF32, kWhole, kTaken>(cells, first, v, step.masters, p);
    if (step.state0 != nullptr) load_as<AsF32, kWhole, kTaken>(cells, first, v, step.state0, s0);
    if (step.state1 != nullptr) load_as<AsF32, kWhole, kTaken>(cells, first, v, step.state1, s1);
#pragma unroll
    for (int n = 0; n < kElements; ++n) gradient[n] = ieee_mul(gradient[n], step.gradient_scale);
    const auto set = [&](int n, float after) {
      if (!step.is_frozen) p[n] = after;
    };
    switch (step.formula) {
      case Formula::AdamW:
#pragma unroll
        for (int n = 0; n < kElements; ++n) set(n, step.coefficients.adamw.update<Lane>(p[n], gradient[n], s0[n], s1[n]));
        break;
      case Formula::Adam:
#pragma unroll
        for (int n = 0; n < kElements; ++n) set(n, step.coefficients.adam.update<Lane>(p[n], gradient[n], s0[n], s1[n]));
        break;
      case Formula::Sgd:
#pragma unroll
        for (int n = 0; n < kElements; ++n) set(n, step.coefficients.sgd.update<Lane>(p[n], gradient[n]));
        break;
      case Formula::Momentum:
#pragma unroll
        for (int n = 0; n < kElements; ++n) set(n, step.coefficients.momentum.update<Lane>(p[n], gradient[n], s0[n]));
        break;
      default:
#pragma unroll
        for (int n = 0; n < kElements; ++n) set(n, step.coefficients.lion.update<Lane>(p[n], gradient[n], s0[n]));
    }
    if (step.state0 != nullptr) store_as<AsF32, kWhole, kTaken>(cells, first, v, s0, step.state0);
    if (step.state1 != nullptr) store_as<AsF32, kWhole, kTaken>(cells, first, v, s1, step.state1);
    if (step.is_rounded) return round<kWhole>(job, first, v, p);
    if (!step.is_frozen) store_as<AsF32, kWhole, kTaken>(cells, first, v, p, step.masters);
    if (step.parameters != nullptr) store<kWhole, kTaken>(cells, first, v, p, step.parameters, step.type);
  }

  // Arrays without noise go without: their rounding is drawn in the order of tiles.
  template <bool kWhole>
  ZEROSTEP_HOST_DEVICE void round(int64_t job, int64_t first, int v, const float* p) const {
    if constexpr (!std::is_same_v<Source, NoNoise>) {
      const Cells& cells = given.cells;
      uint32_t words[kElements];
      if constexpr (std::is_same_v<Source, LowRank>) {
#pragma unroll
        for (int n = 0; n < kElements; ++n)
          words[n] = noise_bits(step.rounding, element + static_cast<uint64_t>(first + (v + n) * cells.stride()));
      } else {
        fill_rounding<kTaken>(cells, job, v, step.rounding, words);
      }
      uint16_t rounded[kElements];
#pragma unroll
      for (int n = 0; n < kElements; ++n)
        rounded[n] = step.type == DType::BF16 ? bf16_stochastically(p[n], words[n]) : fp16_stochastically(p[n], words[n]);
      store_as<AsBits16, kWhole, kTaken>(cells, first, v, rounded, step.parameters);
    }
  }
};

template <class Source, class Cells>
void put_step(Queue& queue, const Source& source, const Cells& cells, const ParameterPiece& piece, Step step, const Sum& sum) {
  step.is_aligned = are_vectors_aligned(cells, step.masters, DType::F32) && are_vectors_aligned(cells, step.parameters, step.type) &&
                    are_vectors_aligned(cells, step.state0, DType::F32) && are_vectors_aligned(cells, step.state1, DType::F32) &&
                    is_aligned(sum, cells);
  put(queue, cells.num_jobs(), StepBody<Source>{{source, cells, sum}, piece.first + static_cast<uint64_t>(piece.begin), step});
}

Step moved(Step step, int64_t elements) {
  const auto move = [&](float*& data) { data = data == nullptr ? nullptr : data + elements; };
  move(step.masters);
  move(step.state0);
  move(step.state1);
  if (step.parameters != nullptr) step.parameters = static_cast<std::byte*>(step.parameters) + num_bytes(elements, step.type);
  return step;
}

// Adds the directions of an estimate in the order of their numbers, as many as a kernel takes at a time, and does the step with the last.
void step_along(Queue& queue, const ParameterPiece& piece, const NoiseEstimate& estimate, const float* reduced, const Step& step) {
  const int64_t together = directions_together(piece, estimate.noise);
  for (int64_t begin = 0; begin == 0 || begin < estimate.num_directions; begin += together) {
    const int64_t n = std::min(together, estimate.num_directions - begin);
    Sum sum(estimate, reduced, begin, n);
    if (begin > 0) sum.before = queue.partial_estimate;
    Step here = step;
    if (!sum.is_last) {
      here = Step();
      here.parameters = queue.partial_estimate;
    }
    with_noise(queue, piece, estimate.noise, sum.numbers_of_all(),
               [&](const auto& source, const auto& cells) { put_step(queue, source, cells, piece, here, sum); });
  }
}

void put_steps(Queue& queue, const ParameterPiece& piece, const Gradient& gradient, const Step& step) {
  if (gradient.kind == Gradient::Kind::Reduced) {
    const Sum sum(gradient.reduced);
    if (step.is_rounded)
      return put_step(queue, Normals(), NormalTiles(piece.first + static_cast<uint64_t>(piece.begin), piece.count), piece, step, sum);
    return put_step(queue, NoNoise(), Neighbours(piece.count), piece, step, sum);
  }
  const NoiseEstimate& estimate = gradient.estimate;
  if (estimate.num_directions <= directions_together(piece, estimate.noise))
    return step_along(queue, piece, estimate, gradient.reduced, step);
  for (int64_t begin = 0; begin < piece.count; begin += kScratchPart) {
    ParameterPiece part = piece;
    part.begin += begin;
    part.count = std::min(kScratchPart, piece.count - begin);
    step_along(queue, part, estimate, gradient.reduced == nullptr ? nullptr : gradient.reduced + begin, moved(step, begin));
  }
}

}  // namespace

void estimate(Queue& queue, const ParameterPiece& piece, const Gradient& gradient, float* out) {
  Step step;
  step.parameters = out;
  put_steps(queue, piece, gradient, step);
}

void update(Queue& queue, const PieceUpdate& given, const OptimizerFormula& formula) {
  const OptimizerPiece piece{.master = nullptr, .gradient = nullptr, .lr = given.lr, .weight_decay = given.weight_decay};
  Step step;
  step.is_rounded = given.masters == nullptr;
  step.type = given.type;
  step.masters = given.masters;
  step.parameters = given.parameters;
  step.gradient_scale = given.gradient_scale;
  step.rounding = given.rounding;
  step.rounding.tag = NoiseTag::Rounding;
  int num_states = 0;
  const auto choose = [&](Formula chosen, auto& coefficients, const auto& made) {
    step.formula = chosen;
    coefficients = made;
    step.is_frozen = made.frozen();
    num_states = made.kStates;
  };
  if (const auto* adam = std::get_if<AdamParameters>(&formula)) {
    if (adam->decoupled)
      choose(Formula::AdamW, step.coefficients.adamw, math::Adam<true>(piece, *adam));
    else
      choose(Formula::Adam, step.coefficients.adam, math::Adam<false>(piece, *adam));
  } else if (const auto* sgd = std::get_if<SgdParameters>(&formula)) {
    if (sgd->momentum == 0)
      choose(Formula::Sgd, step.coefficients.sgd, math::Sgd(piece));
    else
      choose(Formula::Momentum, step.coefficients.momentum, math::SgdMomentum(piece, *sgd));
  } else {
    choose(Formula::Lion, step.coefficients.lion, math::Lion(piece, std::get<LionParameters>(formula)));
  }
  if (num_states > 0) step.state0 = given.states[0];
  if (num_states > 1) step.state1 = given.states[1];
  put_steps(queue, given.piece, given.gradient, step);
}

}  // namespace zerostep::cuda
