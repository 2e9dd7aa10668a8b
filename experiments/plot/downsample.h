#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "experiments/plot/canvas.h"

namespace zerostep {

// The values of a curve; low and high are of a band around it, and have no values where it has none.
struct CurveValues {
  std::span<const double> x, y, low = {}, high = {};
};

// Of the points of a curve whose x do not fall, those that a picture of so many pixels shows: of each pixel the first, the last, the lowest
// and the highest, and of a band the lowest `low` and the highest `high`, so that no spike is lost and lines between pixels stay where they
// are. Points that are no numbers, or whose x or y a logarithmic scale has no place for, are left out.
std::vector<size_t> shown_points(const CurveValues& curve, const Scale& x_scale, const Scale& y_scale, int64_t pixels);

}  // namespace zerostep
