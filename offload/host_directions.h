#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "offload/flat_operands.h"
#include "offload/host_perturb.h"

namespace zerostep {

// A block of values that passes through the first cache.
inline constexpr int64_t kBlockElements = int64_t{1} << 12;

// The values of one direction's noise in a parameter, with whatever they need drawn once. Reads from any thread.
class NoiseReader {
 public:
  NoiseReader(const ParameterPiece& piece, const NoiseSource& noise);
  // z of elements [begin, begin + count) of the parameter.
  void read(int64_t begin, int64_t count, float* out) const;

 private:
  uint64_t first_;
  NoiseSource noise_;
  std::optional<LowRankDirection> low_rank_;
};

// Turns z into d of an instructed direction, in place. `gradient`: of the same elements.
void instruct(const Direction& direction, const float* gradient, int64_t count, float* z);

// The values of an estimate in a parameter, likewise.
class EstimateReader {
 public:
  EstimateReader(const ParameterPiece& piece, const NoiseEstimate& estimate);
  // Elements [begin, begin + count) of the parameter. `reduced`: of the same elements, read where the estimate is instructed; may be `out`.
  void read(int64_t begin, int64_t count, const float* reduced, float* out) const;

 private:
  void read_noise(int64_t begin, int64_t count, float* out) const;
  uint64_t first_;
  NoiseEstimate estimate_;
  std::vector<LowRankDirection> low_rank_;
};

}  // namespace zerostep
