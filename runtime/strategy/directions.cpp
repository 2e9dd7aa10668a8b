#include "runtime/strategy/directions.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {
namespace {

constexpr int64_t kGrainElements = int64_t{1} << 15;  // a thread's least work
constexpr int64_t kBlockElements = int64_t{1} << 12;  // of values that pass through the first cache

std::byte* moved(void* data, int64_t elements, DType type) {
  return data == nullptr ? nullptr : static_cast<std::byte*>(data) + num_bytes(elements, type);
}

PerturbSlice part_of(PerturbSlice slice, int64_t begin, int64_t count) {
  slice.base = static_cast<const std::byte*>(slice.base) + num_bytes(begin, slice.base_type);
  slice.plus = moved(slice.plus, begin, slice.target_type);
  slice.minus = moved(slice.minus, begin, slice.target_type);
  slice.first += static_cast<uint64_t>(begin);
  slice.count = count;
  return slice;
}

}  // namespace

NoiseKey Directions::key(int64_t step, int64_t direction) const {
  return {seed_, NoiseTag::Direction, static_cast<uint64_t>(step), static_cast<uint32_t>(direction)};
}

NoiseKind Directions::kind() const {
  return config_.perturbation == StepConfig::Perturbation::Rademacher ? NoiseKind::Rademacher : NoiseKind::Gaussian;
}

bool Directions::low_rank(const ParameterInfo& parameter) const {
  return config_.perturbation == StepConfig::Perturbation::LowRank && parameter.shape.size() == 2;
}

LowRankDirection Directions::low_rank_direction(int64_t step, int64_t direction, const ParameterInfo& parameter) const {
  return LowRankDirection({static_cast<uint64_t>(parameter.first), parameter.shape[0], parameter.shape[1], config_.rank}, seed_,
                          static_cast<uint64_t>(step), static_cast<uint64_t>(config_.refresh), static_cast<uint32_t>(direction));
}

DirectionValues::DirectionValues(const Directions& directions, int64_t step, int64_t direction, const ParameterInfo& parameter)
    : kind_(directions.kind()), key_(directions.key(step, direction)), first_(parameter.first) {
  if (directions.low_rank(parameter)) low_rank_.emplace(directions.low_rank_direction(step, direction, parameter));
}

void DirectionValues::read(int64_t begin, int64_t count, float* out) const {
  const uint64_t first = static_cast<uint64_t>(first_ + begin);
  if (low_rank_)
    low_rank_->fill(begin, count, out);
  else if (kind_ == NoiseKind::Rademacher)
    fill_rademacher(key_, first, count, out);
  else
    fill_normal(key_, first, count, out);
}

void Directions::values(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const {
  DirectionValues(*this, step, direction, parameter).read(begin, count, out);
}

void Directions::perturb(int64_t step, int64_t direction, std::span<const Perturbed> parameters) const {
  const NoiseKey noise = key(step, direction);
  std::vector<int64_t> begins{0};  // of each parameter among the elements of all
  std::vector<std::optional<DirectionValues>> values(parameters.size());
  for (size_t p = 0; p < parameters.size(); ++p) {
    const ParameterInfo& parameter = *parameters[p].parameter;
    begins.push_back(begins.back() + parameter.num_elements());
    if (instruction_ != nullptr || low_rank(parameter)) values[p].emplace(*this, step, direction, parameter);
  }
  const auto run = [&](size_t p, int64_t begin, int64_t end) {
    const auto& [parameter, given, gradient] = parameters[p];
    PerturbSlice slice = given;
    slice.first = static_cast<uint64_t>(parameter->first);
    slice.epsilon = static_cast<float>(config_.epsilon);
    if (!values[p]) return zerostep::perturb(part_of(slice, begin, end - begin), kind(), noise);
    std::vector<float> z(static_cast<size_t>(std::min(kBlockElements, end - begin)));
    for (int64_t at = begin; at < end; at += kBlockElements) {
      const int64_t n = std::min(kBlockElements, end - at);
      values[p]->read(at, n, z.data());
      if (instruction_ != nullptr) instruction_->apply(direction, gradient + at, n, z.data());
      perturb_with(part_of(slice, at, n), z.data());
    }
  };
  at::parallel_for(0, begins.back(), kGrainElements, [&](int64_t begin, int64_t end) {
    for (size_t p = 0; p < parameters.size(); ++p) {
      const int64_t from = std::max(begin, begins[p]), to = std::min(end, begins[p + 1]);
      if (from < to) run(p, from - begins[p], to - begins[p]);
    }
  });
}

void Directions::perturb_tile(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t row, int64_t column,
                              PerturbTile tile) const {
  if (instruction_ != nullptr || low_rank(parameter)) fail_protocol("[directions] {} is not made of noise alone", parameter.name);
  tile.first = static_cast<uint64_t>(parameter.first + row * tile.stride + column);
  tile.epsilon = static_cast<float>(config_.epsilon);
  zerostep::perturb_tile(tile, kind(), key(step, direction));
}

void Directions::factors(int64_t step, int64_t direction, const ParameterInfo& parameter, float* left, float* right) const {
  const LowRankDirection direction_of = low_rank_direction(step, direction, parameter);
  const int64_t rows = parameter.shape[0], rank = config_.rank;
  const float scale = static_cast<float>(config_.epsilon / std::sqrt(static_cast<double>(rank)));
  std::vector<float> u(static_cast<size_t>(rows * rank));
  direction_of.fill_u(u.data());
  for (int64_t k = 0; k < rank; ++k)
    for (int64_t i = 0; i < rows; ++i) left[k * rows + i] = scale * nth(u, i * rank + k);
  std::copy(direction_of.v_transposed().begin(), direction_of.v_transposed().end(), right);
}

int64_t Directions::count_unchanged(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin,
                                    PerturbSlice slice) const {
  slice.first = static_cast<uint64_t>(parameter.first + begin);
  slice.epsilon = static_cast<float>(config_.epsilon);
  std::atomic<int64_t> unchanged{0};
  // Entries of a low-rank direction are distributed much as normals are.
  at::parallel_for(0, slice.count, kGrainElements, [&](int64_t from, int64_t to) {
    unchanged += zerostep::count_unchanged(part_of(slice, from, to - from), kind(), key(step, direction));
  });
  return unchanged;
}

}  // namespace zerostep
