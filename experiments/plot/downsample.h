#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "experiments/plot/canvas.h"

namespace zerostep {

// Of the points of a curve whose x do not fall, those that a picture of so many pixels shows: of each pixel the first, the last, the lowest
// and the highest, so that no spike is lost and lines between pixels stay where they are. Points that are no numbers, or that a logarithmic
// scale has no place for, are left out.
std::vector<size_t> shown_points(std::span<const double> x, std::span<const double> y, const Scale& x_scale, const Scale& y_scale,
                                 int64_t pixels);

}  // namespace zerostep
