#include "experiments/plot/colors.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace zerostep {

Color color_of_name(size_t index, size_t count) {
  constexpr std::array<Color, kNamedColors> kNames{
      {{0, 114, 178}, {213, 94, 0}, {0, 158, 115}, {204, 121, 167}, {230, 159, 0}, {86, 180, 233}, {90, 60, 140}, {70, 70, 70}}};
  return count <= kNames.size() ? kNames[index] : color_of_order(index, count);
}

Color color_of_order(size_t index, size_t count) {
  constexpr std::array<std::array<double, 3>, 6> kRamp{
      {{68, 1, 84}, {64, 67, 135}, {41, 120, 142}, {34, 167, 132}, {121, 200, 78}, {200, 190, 30}}};
  const double at = count < 2 ? 0 : static_cast<double>(index) / static_cast<double>(count - 1) * (kRamp.size() - 1);
  const auto left = std::min(static_cast<size_t>(at), kRamp.size() - 2);
  const double share = at - static_cast<double>(left);
  const auto mixed = [&](size_t part) {
    return static_cast<uint8_t>(std::lround(kRamp[left][part] * (1 - share) + kRamp[left + 1][part] * share));
  };
  return {mixed(0), mixed(1), mixed(2)};
}

}  // namespace zerostep
