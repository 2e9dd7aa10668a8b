#pragma once
#include <cstdint>

#include "models/parameter.h"

namespace zerostep {

// Where an update finds its gradient when that is not what the reducer left: an estimate made as it is needed, block by block.
class GradientSource {
 public:
  virtual ~GradientSource() = default;
  // The parameter that the next reads are of. From one thread.
  virtual void prepare(const ParameterInfo& parameter) = 0;
  // Elements [begin, begin + count) of it. `reduced`: the reduced gradient there, or nullptr without backprop. From any thread.
  virtual void read(int64_t begin, int64_t count, const float* reduced, float* out) const = 0;
};

}  // namespace zerostep
