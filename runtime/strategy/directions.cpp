#include "runtime/strategy/directions.h"

#include <algorithm>
#include <vector>

#include "base/device.h"
#include "base/error.h"
#include "base/nth.h"
#include "runtime/state/parameter_piece.h"

namespace zerostep {
namespace {

// A histogram, or what an instruction is made of.
int64_t most_sums(const StepConfig& config) {
  return round_up(std::max<int64_t>(int64_t{kEnergyBins}, 2 * config.queries + 1), kAlignmentBytes / 8);
}

}  // namespace

Directions::Directions(const StepConfig& config, uint64_t seed)
    : Directions(config, seed, Device::cpu(), host_kernels(), Device::cpu().compute_stream()) {}

Directions::Directions(const StepConfig& config, uint64_t seed, const Device& device, const FlatKernels& kernels, Stream stream)
    : config_(config),
      seed_(seed),
      device_name_(device.name()),
      kernels_(&kernels),
      stream_(std::move(stream)),
      sum_memory_(device.memory("sums of directions", num_bytes(most_sums(config), DType::F64), MemoryKind::PinnedHost)),
      sums_(static_cast<double*>(sum_memory_.allocate(num_bytes(most_sums(config), DType::F64), "sums"))) {}

std::span<double> Directions::sums(int64_t count) const {
  if (count > most_sums(config_)) fail_protocol("[directions] {} sums", count);
  const std::span<double> out(sums_, static_cast<size_t>(count));
  std::fill(out.begin(), out.end(), 0.0);
  return out;
}

NoiseSource Directions::noise(int64_t step, int64_t direction) const {
  const bool is_rademacher = config_.perturbation == StepConfig::Perturbation::Rademacher,
             is_low_rank = config_.perturbation == StepConfig::Perturbation::LowRank;
  return {is_rademacher ? NoiseKind::Rademacher : NoiseKind::Gaussian,
          {seed_, NoiseTag::Direction, static_cast<uint64_t>(step), static_cast<uint32_t>(direction)},
          is_low_rank ? config_.rank : 0,
          static_cast<uint64_t>(config_.refresh)};
}

bool Directions::low_rank(const ParameterInfo& parameter) const {
  return config_.perturbation == StepConfig::Perturbation::LowRank && parameter.shape.size() == 2;
}

void Directions::values(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const {
  kernels_->draw(piece_of(parameter, begin, count), noise(step, direction), out, stream_);
  stream().synchronize();
}

void Directions::perturb(int64_t step, int64_t direction, std::span<const Perturbed> parameters) const {
  Direction along{noise(step, direction), {}};
  if (instruction_ != nullptr)
    along = {along.noise, instruction_->entries(), nth(instruction_->gradient_weights, direction),
             nth(instruction_->noise_weights, direction)};
  std::vector<Perturbation> perturbations;
  for (const auto& [parameter, values, gradient] : parameters)
    perturbations.push_back({piece_of(*parameter, 0, parameter->num_elements()), values, gradient});
  kernels_->perturb(perturbations, along, static_cast<float>(config_.epsilon), stream_);
}

void Directions::perturb_tile(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t row, int64_t column,
                              PerturbedTile tile) const {
  if (instruction_ != nullptr || low_rank(parameter)) fail_protocol("[directions] {} is not made of noise alone", parameter.name);
  tile.first = static_cast<uint64_t>(parameter.first + row * tile.stride + column);
  tile.epsilon = static_cast<float>(config_.epsilon);
  kernels_->perturb_tile(tile, noise(step, direction));
}

LowRankFactors Directions::factors(int64_t step, int64_t direction, const ParameterInfo& parameter, float* left, float* right) const {
  return {piece_of(parameter, 0, parameter.num_elements()), noise(step, direction), config_.epsilon, {}, left, right};
}

int64_t Directions::count_unchanged(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin,
                                    PerturbedPiece values) const {
  values.first = static_cast<uint64_t>(parameter.first + begin);
  values.epsilon = static_cast<float>(config_.epsilon);
  auto* const unchanged = reinterpret_cast<int64_t*>(sums(1).data());
  *unchanged = 0;
  // Entries of a low-rank direction are distributed much as normals are.
  kernels_->count_unchanged(values, noise(step, direction), unchanged, stream_);
  stream().synchronize();
  return *unchanged;
}

}  // namespace zerostep
