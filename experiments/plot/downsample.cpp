#include "experiments/plot/downsample.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace zerostep {

std::vector<size_t> shown_points(std::span<const double> x, std::span<const double> y, const Scale& x_scale, const Scale& y_scale,
                                 int64_t pixels) {
  constexpr size_t kNone = SIZE_MAX;
  std::vector<size_t> out;
  size_t first = kNone, last = kNone, lowest = kNone, highest = kNone;
  const auto settle = [&] {
    if (first == kNone) return;
    std::array<size_t, 4> kept{first, lowest, highest, last};
    std::sort(kept.begin(), kept.end());
    out.insert(out.end(), kept.begin(), std::unique(kept.begin(), kept.end()));
    first = kNone;
  };
  double now = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i]) || (x_scale.is_log && x[i] <= 0) || (y_scale.is_log && y[i] <= 0)) continue;
    const double pixel = std::floor(x_scale.place(x[i], 0, static_cast<double>(pixels)));
    if (first != kNone && pixel != now) settle();
    if (first == kNone) {
      now = pixel;
      first = lowest = highest = i;
    }
    last = i;
    if (y[i] < y[lowest]) lowest = i;
    if (y[i] > y[highest]) highest = i;
  }
  settle();
  return out;
}

}  // namespace zerostep
