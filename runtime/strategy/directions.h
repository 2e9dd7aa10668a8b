#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "base/device.h"
#include "models/parameter.h"
#include "offload/flat_kernels.h"
#include "runtime/config/config.h"
#include "runtime/strategy/instruction.h"

namespace zerostep {

// The random directions of a step as functions of (seed, step, direction, global element index): what perturbing adds and what the update
// adds up is the same noise, whoever asks for whichever part of it. No state is carried.
class Directions {
 public:
  // What perturbs is launched on the stream. Without one: on the host, in the calling thread.
  Directions(const StepConfig& config, uint64_t seed);
  Directions(const StepConfig& config, uint64_t seed, const Device& device, const FlatKernels& kernels, Stream stream);

  // Elements [begin, begin + count) of a parameter's z. Blocks.
  void values(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin, int64_t count, float* out) const;
  // Perturbs whole parameters.
  struct Perturbed {
    const ParameterInfo* parameter;
    PerturbedPiece values;            // from where to where; first, count and epsilon are filled in
    const float* gradient = nullptr;  // the parameter's reduced gradient, of which an instructed step makes its directions
  };
  void perturb(int64_t step, int64_t direction, std::span<const Perturbed> parameters) const;
  // Perturbs a tile of a matrix of fp32 values along a random direction of full rank: `tile` without first and epsilon; row and column are
  // those of its first element. From any thread.
  void perturb_tile(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t row, int64_t column, PerturbedTile tile) const;
  // A low-rank direction of a matrix, without the branches that look along it.
  LowRankFactors factors(int64_t step, int64_t direction, const ParameterInfo& parameter, float* left, float* right) const;
  // Elements of [begin, begin + count) that epsilon z leaves unchanged in the target type. Blocks.
  int64_t count_unchanged(int64_t step, int64_t direction, const ParameterInfo& parameter, int64_t begin, PerturbedPiece values) const;

  // From here on directions are made of the gradient (nullptr: random again).
  void instruct(const Instruction* instruction) { instruction_ = instruction; }
  const Instruction* instruction() const { return instruction_; }

  const StepConfig& config() const { return config_; }
  // What measures estimates and instructs directions launches there, too.
  const FlatKernels& kernels() const { return *kernels_; }
  Stream stream() const { return stream_; }
  // Where what they perturb lies, as LibTorch calls it.
  const std::string& device_name() const { return device_name_; }
  // Zeros that kernels of the stream add to, for the host to read once the stream is there; until the next call.
  std::span<double> sums(int64_t count) const;
  NoiseSource noise(int64_t step, int64_t direction) const;
  bool low_rank(const ParameterInfo& parameter) const;

 private:
  StepConfig config_;
  uint64_t seed_;
  std::string device_name_;
  const FlatKernels* kernels_;
  Stream stream_;
  Arena sum_memory_;  // that the host and the device reach
  double* sums_;
  const Instruction* instruction_ = nullptr;
};

}  // namespace zerostep
