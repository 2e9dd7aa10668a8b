#include <cmath>

#include "experiments/plot/canvas.h"

namespace zerostep {

double Scale::to_pixel(double value, double from, double to) const {
  if (is_log) return from + (std::log(value) - std::log(low)) / (std::log(high) - std::log(low)) * (to - from);
  // Halves, whose difference a double has room for whatever they are.
  return from + (value / 2 - low / 2) / (high / 2 - low / 2) * (to - from);
}

double Scale::to_value(double pixel, double from, double to) const {
  const double share = (pixel - from) / (to - from);
  return is_log ? std::exp(std::lerp(std::log(low), std::log(high), share)) : std::lerp(low, high, share);
}

}  // namespace zerostep
