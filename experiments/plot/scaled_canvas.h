#pragma once
#include <memory>

#include "experiments/plot/canvas.h"

namespace zerostep {

// Draws on another canvas, which outlives it, with all lengths `factor` times as large: texts too, so that a layout stays as it is.
std::unique_ptr<Canvas> make_scaled_canvas(Canvas& canvas, double factor);

}  // namespace zerostep
