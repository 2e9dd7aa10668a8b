#include "runtime/strategy/instruction.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/nth.h"
#include "runtime/state/parameter_piece.h"
#include "runtime/strategy/directions.h"

namespace zerostep {
Instruction make_instruction(const StepConfig::Instruct& config, std::span<const InstructionSums> sums, double gradient_squares,
                             double kept_squares, float threshold, int64_t elements) {
  Instruction out;
  out.energy = config.energy;
  out.threshold = threshold;
  const double norm = std::sqrt(gradient_squares), c = config.cosine;
  for (const InstructionSums& s : sums) {
    double a = 0, b = 0, cosine = c;
    if (config.energy) {
      const double noise = config.noise_scale * norm / std::sqrt(static_cast<double>(elements));
      const double length = std::sqrt(kept_squares + noise * noise * s.noise_noise);
      a = 1 / length;
      b = noise / length;
      cosine = (a * kept_squares + b * s.noise_gradient) / norm;
    } else {
      // z less its part along g, as a unit vector, is v.
      const double along = s.noise_gradient / norm, rest = std::sqrt(std::max(0.0, s.noise_noise - along * along));
      b = std::sqrt(1 - c * c) / rest;
      a = (c - b * along) / norm;
    }
    out.gradient_weights.push_back(static_cast<float>(a));
    out.noise_weights.push_back(static_cast<float>(b));
    out.cosine.push_back(cosine);
  }
  return out;
}

void add_instruction_sums(const Directions& directions, const Instruction& instruction, int64_t step, const ParameterInfo& parameter,
                          int64_t first, int64_t count, const float* gradient, std::span<double> sums) {
  directions.kernels().add_direction_sums(piece_of(parameter, first, count), directions.noise(step, 0), directions.config().queries,
                                          instruction.entries(), gradient, sums.data(), directions.stream());
}

int EnergyHistogram::find(double wanted, double& above) const {
  for (int bin = kBins - 1; bin > 0; --bin) {
    const double energy = nth(energy_, bin);
    if (above + energy >= wanted && energy > 0) return bin;
    above += energy;
  }
  return 0;
}

float EnergyHistogram::magnitude_of(int fine_bin) const {
  return std::bit_cast<float>(static_cast<uint32_t>(coarse_) << kCoarseShift | static_cast<uint32_t>(fine_bin) << kFineShift);
}

namespace {

// The smallest |g| of the entries that hold the wanted share of the gradient's energy between them.
float find_threshold(double wanted, const Directions& directions, std::span<const OwnedGradient> owned, const AddOverRanks& add) {
  const auto filled = [&](int coarse_bin) {
    EnergyHistogram histogram(directions.sums(EnergyHistogram::kBins), coarse_bin);
    for (const OwnedGradient& part : owned) histogram.add(part.gradient, part.count, directions.kernels(), directions.stream());
    directions.stream().synchronize();
    add(histogram.energy(), "histogram of the gradient");
    return histogram;
  };
  double above = 0;
  const int coarse_bin = filled(-1).find(wanted, above);
  const EnergyHistogram fine = filled(coarse_bin);
  return fine.magnitude_of(fine.find(wanted, above));
}

// 2 sums a direction and one.
std::span<double> launch_sums(const Directions& directions, const Instruction& kept, int64_t step, std::span<const OwnedGradient> owned) {
  const std::span<double> sums = directions.sums(2 * directions.config().queries + 1);
  for (const OwnedGradient& part : owned)
    add_instruction_sums(directions, kept, step, *part.parameter, part.first, part.count, part.gradient, sums);
  return sums;
}

}  // namespace

std::span<double> begin_instruction(const StepConfig::Instruct& config, const Directions& directions, int64_t step,
                                    std::span<const OwnedGradient> owned) {
  return config.energy ? std::span<double>() : launch_sums(directions, Instruction(), step, owned);
}

std::optional<Instruction> find_instruction(const StepConfig::Instruct& config, const Directions& directions, int64_t step,
                                            std::span<const OwnedGradient> owned, double gradient_squares, int64_t elements,
                                            std::span<double> sums, const AddOverRanks& add) {
  if (gradient_squares == 0) return std::nullopt;
  float threshold = 0;
  if (config.energy) {
    threshold = find_threshold(config.cosine * config.cosine * gradient_squares, directions, owned, add);
    sums = launch_sums(directions, {true, threshold, {}, {}, {}}, step, owned);
    directions.stream().synchronize();
  }
  const int64_t queries = directions.config().queries;
  add(sums, "instruction");
  std::vector<InstructionSums> direction_sums;
  for (int64_t d = 0; d < queries; ++d) direction_sums.push_back({nth(sums, 2 * d), nth(sums, 2 * d + 1)});
  return make_instruction(config, direction_sums, gradient_squares, sums.back(), threshold, elements);
}

}  // namespace zerostep
