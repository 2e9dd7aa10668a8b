#include "experiments/plot/smooth.h"

#include <cmath>

namespace zerostep {

std::vector<double> smoothed(std::span<const double> values, double a) {
  std::vector<double> out(values.begin(), values.end());
  double mean = 0, power = 1;
  for (double& value : out) {
    if (!std::isfinite(value)) continue;
    mean = a * mean + (1 - a) * value;
    power *= a;
    value = mean / (1 - power);
  }
  return out;
}

}  // namespace zerostep
