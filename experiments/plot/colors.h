#pragma once
#include <cstddef>

#include "experiments/plot/canvas.h"

namespace zerostep {

constexpr Color kInk{34, 34, 34}, kPale{110, 110, 110}, kGrid{228, 228, 228}, kFrame{150, 150, 150};

constexpr size_t kNamedColors = 8;
// Color `index` of `count` names: colors that people of any color vision tell apart and that print well (Okabe and Ito's, without yellow);
// of more than there are, a ramp.
Color color_of_name(size_t index, size_t count);
// Color `index` of `count` values in their order: a ramp from dark blue to green and gold, whose lightness grows steadily.
Color color_of_order(size_t index, size_t count);

}  // namespace zerostep
