#include <cmath>

#include "experiments/plot/canvas.h"

namespace zerostep {

double Scale::to_pixel(double value, double from, double to) const {
  if (is_log) return from + (std::log(value) - std::log(low)) / (std::log(high) - std::log(low)) * (to - from);
  return from + (value - low) / (high - low) * (to - from);
}

double Scale::to_value(double pixel, double from, double to) const {
  const double share = (pixel - from) / (to - from);
  return is_log ? low * std::pow(high / low, share) : low + share * (high - low);
}

}  // namespace zerostep
