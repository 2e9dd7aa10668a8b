#include "runtime/strategy/estimate.h"

#include <algorithm>
#include <cmath>

#include "base/nth.h"
#include "offload/host_optimizer.h"
#include "runtime/strategy/block_sums.h"

namespace zerostep {
namespace {

constexpr int64_t kBlockElements = int64_t{1} << 12;  // of values that pass through the first cache

}  // namespace

Estimate::Estimate(const Directions& directions, int64_t step, std::span<const double> scalars, double blend, double averaging)
    : directions_(directions), step_(step), scale_(1.0f / static_cast<float>(scalars.size())) {
  const Instruction* instruction = directions.instruction();
  double of_gradient = 0;
  for (size_t i = 0; i < scalars.size(); ++i) {
    numbers_.push_back(static_cast<uint32_t>(i));
    if (instruction == nullptr) {
      scalars_.push_back(static_cast<float>(scalars[i]));
      continue;
    }
    const double share = (1 - blend) * scalars[i] / (instruction->cosine[i] * instruction->cosine[i]);
    scalars_.push_back(static_cast<float>(share * static_cast<double>(instruction->of_noise[i])));
    of_gradient += share * static_cast<double>(instruction->of_gradient[i]) / static_cast<double>(scalars.size());
  }
  of_gradient_ = static_cast<float>(of_gradient);
  blended_gradient_ = static_cast<float>(blend * averaging);
}

void Estimate::prepare(const ParameterInfo& parameter) {
  if (parameter_ == &parameter) return;
  parameter_ = &parameter;
  low_rank_.clear();
  if (!directions_.low_rank(parameter)) return;
  for (uint32_t direction : numbers_) low_rank_.push_back(directions_.low_rank_direction(step_, direction, parameter));
}

void Estimate::read(int64_t begin, int64_t count, const float* reduced, float* out) const {
  read_noise(begin, count, out);
  const Instruction* instruction = directions_.instruction();
  if (instruction == nullptr) return;
  for (int64_t i = 0; i < count; ++i) {
    const bool mixed = !instruction->energy, kept = instruction->keeps(reduced[i]);
    const float noise = mixed || !kept ? out[i] : 0.0f, weight = mixed || kept ? of_gradient_ + blended_gradient_ : blended_gradient_;
    out[i] = std::fma(weight, reduced[i], noise);
  }
}

void Estimate::read_noise(int64_t begin, int64_t count, float* out) const {
  if (low_rank_.empty()) {
    noise_estimate(directions_.kind(), directions_.key(step_, 0), numbers_.data(), scalars_.data(), static_cast<int64_t>(numbers_.size()),
                   scale_, static_cast<uint64_t>(parameter_->first + begin), count, out);
    return;
  }
  float z[kBlockElements];
  for (int64_t at = 0; at < count; at += kBlockElements) {
    const int64_t n = std::min(kBlockElements, count - at);
    std::fill_n(out + at, n, 0.0f);
    for (size_t i = 0; i < low_rank_.size(); ++i) {
      low_rank_[i].fill(begin + at, n, z);
      accumulate_scaled(scalars_[i], z, n, out + at);
    }
    for (int64_t j = 0; j < n; ++j) out[at + j] *= scale_;
  }
}

EstimateMeasures measure_with_gradient(Estimate& estimate, std::span<const OwnedGradient> owned, const AddOverRanks& add) {
  double sums[3] = {0, 0, 0};  // <g, e>, <g, g>, <e, e>
  for (const OwnedGradient& part : owned) {
    estimate.prepare(*part.parameter);
    add_block_sums(part.count, sums, [&](int64_t begin, int64_t n, std::span<double> partial) {
      std::vector<float> values(static_cast<size_t>(n));
      const float* g = part.gradient + begin;
      estimate.read(part.first + begin, n, g, values.data());
      for (int64_t i = 0; i < n; ++i) partial[0] += static_cast<double>(g[i]) * static_cast<double>(nth(values, i));
      partial[1] += sum_of_squares(g, n);
      partial[2] += sum_of_squares(values.data(), n);
    });
  }
  add(sums, "cosine");
  EstimateMeasures out{std::sqrt(sums[2]), {}};
  if (sums[1] > 0 && sums[2] > 0) out.cosine = sums[0] / std::sqrt(sums[1] * sums[2]);
  return out;
}

double measure_norm(Estimate& estimate, std::span<const OwnedGradient> owned, const AddOverRanks& add) {
  double squares = 0;
  for (const OwnedGradient& part : owned) {
    estimate.prepare(*part.parameter);
    add_block_sums(part.count, {&squares, 1}, [&](int64_t begin, int64_t n, std::span<double> partial) {
      std::vector<float> values(static_cast<size_t>(n));
      estimate.read(part.first + begin, n, nullptr, values.data());
      partial[0] += sum_of_squares(values.data(), n);
    });
  }
  add({&squares, 1}, "norm of the estimate");
  return std::sqrt(squares);
}

}  // namespace zerostep
