#include "runtime/strategy/estimate.h"

#include <array>
#include <cmath>

#include "runtime/state/parameter_piece.h"

namespace zerostep {

Estimate::Estimate(const Directions& directions, int64_t step, std::span<const double> scalars, double blend, double averaging) {
  const Instruction* instruction = directions.instruction();
  double gradient_weight = 0;
  for (size_t i = 0; i < scalars.size(); ++i) {
    numbers_.push_back(static_cast<uint32_t>(i));
    if (instruction == nullptr) {
      scalars_.push_back(static_cast<float>(scalars[i]));
      continue;
    }
    const double share = (1 - blend) * scalars[i] / (instruction->cosine[i] * instruction->cosine[i]);
    scalars_.push_back(static_cast<float>(share * static_cast<double>(instruction->noise_weights[i])));
    gradient_weight += share * static_cast<double>(instruction->gradient_weights[i]) / static_cast<double>(scalars.size());
  }
  gradient_ = {Gradient::Kind::Estimate,
               nullptr,
               {directions.noise(step, 0), numbers_.data(), scalars_.data(), static_cast<int64_t>(scalars.size()),
                1.0f / static_cast<float>(scalars.size()), instruction == nullptr ? GradientEntries{} : instruction->entries(),
                static_cast<float>(gradient_weight), static_cast<float>(blend * averaging)}};
}

namespace {

// <g, e>, <g, g> and <e, e> of what this rank owns.
std::array<double, 3> sums_of(const Estimate& estimate, const Directions& directions, std::span<const OwnedGradient> owned,
                              bool has_gradient) {
  const std::span<double> sums = directions.sums(3);
  for (const OwnedGradient& part : owned) {
    Gradient gradient = estimate.gradient();
    if (has_gradient) gradient.reduced = part.gradient;
    directions.kernels().add_gradient_sums(piece_of(*part.parameter, part.first, part.count), gradient, sums.data(), directions.stream());
  }
  directions.stream().synchronize();
  return {sums[0], sums[1], sums[2]};
}

}  // namespace

EstimateMeasures measure_with_gradient(const Estimate& estimate, const Directions& directions, std::span<const OwnedGradient> owned,
                                       const AddOverRanks& add) {
  std::array<double, 3> sums = sums_of(estimate, directions, owned, true);
  add(sums, "cosine");
  EstimateMeasures out{std::sqrt(sums[2]), sums[0], {}};
  if (sums[1] > 0 && sums[2] > 0) out.cosine = sums[0] / std::sqrt(sums[1] * sums[2]);
  return out;
}

double measure_norm(const Estimate& estimate, const Directions& directions, std::span<const OwnedGradient> owned, const AddOverRanks& add) {
  double squares = sums_of(estimate, directions, owned, false)[2];
  add({&squares, 1}, "norm of the estimate");
  return std::sqrt(squares);
}

}  // namespace zerostep
