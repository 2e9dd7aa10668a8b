#include "runtime/strategy/instruction.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/nth.h"
#include "runtime/strategy/block_sums.h"
#include "runtime/strategy/directions.h"

namespace zerostep {
namespace {

constexpr int kCoarseShift = 19, kFineShift = 7;

}  // namespace

void Instruction::apply(int64_t direction, const float* gradient, int64_t count, float* z) const {
  const float a = nth(of_gradient, direction), b = nth(of_noise, direction);
  if (energy)
    for (int64_t i = 0; i < count; ++i) z[i] = keeps(gradient[i]) ? a * gradient[i] : b * z[i];
  else
    for (int64_t i = 0; i < count; ++i) z[i] = std::fma(a, gradient[i], b * z[i]);
}

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
    out.of_gradient.push_back(static_cast<float>(a));
    out.of_noise.push_back(static_cast<float>(b));
    out.cosine.push_back(cosine);
  }
  return out;
}

void add_instruction_sums(const Directions& directions, const Instruction& instruction, int64_t step, const ParameterInfo& parameter,
                          int64_t first, int64_t count, const float* gradient, std::span<double> sums) {
  std::vector<DirectionValues> values;
  for (int64_t d = 0; d < directions.config().queries; ++d) values.emplace_back(directions, step, d, parameter);
  add_block_sums(count, sums, [&](int64_t begin, int64_t n, std::span<double> partial) {
    const float* g = gradient + begin;
    const auto kept = [&](int64_t i) { return instruction.energy && instruction.keeps(g[i]); };
    for (int64_t i = 0; i < n; ++i)
      if (kept(i)) partial.back() += static_cast<double>(g[i]) * static_cast<double>(g[i]);
    std::vector<float> z(static_cast<size_t>(n));
    for (size_t d = 0; d < values.size(); ++d) {
      values[d].read(first + begin, n, z.data());
      double zg = 0, zz = 0;
      for (int64_t i = 0; i < n; ++i) {
        if (kept(i)) continue;
        const double value = static_cast<double>(nth(z, i));
        zg += value * static_cast<double>(g[i]);
        zz += value * value;
      }
      partial[2 * d] += zg;
      partial[2 * d + 1] += zz;
    }
  });
}

void EnergyHistogram::add(const float* values, int64_t count) {
  add_block_sums(count, energy_, [&](int64_t begin, int64_t n, std::span<double> partial) {
    for (int64_t i = begin; i < begin + n; ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(values[i]) & 0x7FFFFFFFu;
      const double square = static_cast<double>(values[i]) * static_cast<double>(values[i]);
      if (coarse_ < 0)
        partial[bits >> kCoarseShift] += square;
      else if (static_cast<int>(bits >> kCoarseShift) == coarse_)
        partial[bits >> kFineShift & (kBins - 1)] += square;
    }
  });
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
float find_threshold(double wanted, std::span<const OwnedGradient> owned, const AddOverRanks& add) {
  const auto filled = [&](EnergyHistogram histogram) {
    for (const OwnedGradient& part : owned) histogram.add(part.gradient, part.count);
    add(histogram.energy(), "histogram of the gradient");
    return histogram;
  };
  double above = 0;
  const EnergyHistogram fine = filled(EnergyHistogram(filled(EnergyHistogram()).find(wanted, above)));
  return fine.magnitude_of(fine.find(wanted, above));
}

}  // namespace

std::optional<Instruction> find_instruction(const StepConfig::Instruct& config, const Directions& directions, int64_t step,
                                            std::span<const OwnedGradient> owned, double gradient_squares, int64_t elements,
                                            const AddOverRanks& add) {
  if (gradient_squares == 0) return std::nullopt;
  const float threshold = config.energy ? find_threshold(config.cosine * config.cosine * gradient_squares, owned, add) : 0;
  const Instruction kept{config.energy, threshold, {}, {}, {}};
  const int64_t queries = directions.config().queries;
  std::vector<double> sums(static_cast<size_t>(2 * queries + 1), 0.0);
  for (const OwnedGradient& part : owned)
    add_instruction_sums(directions, kept, step, *part.parameter, part.first, part.count, part.gradient, sums);
  add(sums, "instruction");
  std::vector<InstructionSums> of_direction;
  for (int64_t d = 0; d < queries; ++d) of_direction.push_back({nth(sums, 2 * d), nth(sums, 2 * d + 1)});
  return make_instruction(config, of_direction, gradient_squares, sums.back(), threshold, elements);
}

}  // namespace zerostep
