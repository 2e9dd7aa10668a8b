#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/noise.h"
#include "models/parameter.h"
#include "offload/host_perturb.h"
#include "runtime/config/config.h"
#include "runtime/strategy/instruction.h"

namespace zerostep {

// The random directions of a step as functions of (seed, step, direction, global element index): what perturbing adds and what the update
// adds up is the same noise, whoever asks for whichever part of it. No state is carried.
class Directions {
 public:
  Directions(const StepConfig& config, uint64_t seed) : config_(config), seed_(seed) {}

  // Elements [begin, begin + count) of a parameter's z.
  void values(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const;
  // Perturbs whole parameters, which LibTorch's threads share out among them.
  struct Perturbed {
    const ParameterInfo* parameter;
    PerturbSlice slice;               // from where to where; first, count and epsilon are filled in
    const float* gradient = nullptr;  // the parameter's reduced gradient, of which an instructed step makes its directions
  };
  void perturb(int64_t step, int64_t direction, std::span<const Perturbed> parameters) const;
  // Perturbs a tile of a matrix of fp32 values along a random direction of full rank: `tile` without first and epsilon; row and column are
  // those of its first element. From any thread.
  void perturb_tile(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t row, int64_t column, PerturbTile tile) const;
  // A low-rank direction of a matrix: epsilon z = left' right, left [rank, rows] (epsilon / sqrt(rank) times U') and right [rank, columns].
  void factors(int64_t step, int64_t direction, const ParameterInfo& parameter, float* left, float* right) const;
  // Elements of [begin, begin + count) that epsilon z leaves unchanged in the target type.
  int64_t count_unchanged(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin, PerturbSlice slice) const;

  // From here on directions are made of the gradient (nullptr: random again).
  void instruct(const Instruction* instruction) { instruction_ = instruction; }
  const Instruction* instruction() const { return instruction_; }

  const StepConfig& config() const { return config_; }
  uint64_t seed() const { return seed_; }
  NoiseKey key(int64_t step, int64_t direction) const;
  bool low_rank(const ParameterInfo& parameter) const;
  LowRankDirection low_rank_direction(int64_t step, int64_t direction, const ParameterInfo& parameter) const;
  NoiseKind kind() const;

 private:
  StepConfig config_;
  uint64_t seed_;
  const Instruction* instruction_ = nullptr;
};

// The values of one direction of one parameter, with whatever they need drawn once. Reads from any thread.
class DirectionValues {
 public:
  DirectionValues(const Directions& directions, int64_t step, int64_t direction, const ParameterInfo& parameter);
  void read(int64_t begin, int64_t count, float* out) const;

 private:
  NoiseKind kind_;
  NoiseKey key_;
  int64_t first_;
  std::optional<LowRankDirection> low_rank_;
};

}  // namespace zerostep
