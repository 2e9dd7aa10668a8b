#include "runtime/timing/measuring.h"

#include <algorithm>

namespace zerostep {

Link link_of(double small_bytes, double small_seconds, double large_bytes, double large_seconds) {
  constexpr double kLeastLatency = 10e-9;
  const double seconds_per_byte = std::max(large_seconds - small_seconds, 0.1 * large_seconds) / (large_bytes - small_bytes);
  return {std::max(kLeastLatency, small_seconds - small_bytes * seconds_per_byte), 1 / seconds_per_byte};
}

}  // namespace zerostep
