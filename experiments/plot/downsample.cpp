#include "experiments/plot/downsample.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

namespace zerostep {

std::vector<size_t> shown_points(const CurveValues& curve, const Scale& x_scale, const Scale& y_scale, int64_t pixels) {
  const std::span<const double> x = curve.x, y = curve.y;
  const std::span<const double> low = curve.low.empty() ? y : curve.low, high = curve.high.empty() ? y : curve.high;
  std::vector<size_t> out;
  // Points of the pixel that is gone through, by their index.
  struct Kept {
    size_t first, last, lowest, highest, bottom, top;
  };
  std::optional<Kept> kept;
  const auto settle = [&] {
    if (!kept) return;
    std::array all{kept->first, kept->lowest, kept->highest, kept->bottom, kept->top, kept->last};
    std::sort(all.begin(), all.end());
    out.insert(out.end(), all.begin(), std::unique(all.begin(), all.end()));
    kept.reset();
  };
  double now = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i]) || (x_scale.is_log && x[i] <= 0) || (y_scale.is_log && y[i] <= 0)) continue;
    const double pixel = std::floor(x_scale.to_pixel(x[i], 0, static_cast<double>(pixels)));
    if (pixel != now) settle();
    if (!kept) {
      now = pixel;
      kept = Kept{i, i, i, i, i, i};
    }
    kept->last = i;
    if (y[i] < y[kept->lowest]) kept->lowest = i;
    if (y[i] > y[kept->highest]) kept->highest = i;
    if (low[i] < low[kept->bottom]) kept->bottom = i;
    if (high[i] > high[kept->top]) kept->top = i;
  }
  settle();
  return out;
}

}  // namespace zerostep
