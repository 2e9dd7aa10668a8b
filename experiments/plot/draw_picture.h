#pragma once
#include "experiments/plot/placed_picture.h"

namespace zerostep {

void draw(const PlacedPicture& picture, Canvas& canvas);
// An SVG file; `is_inline`: as a part of a page.
std::string svg_of(const PlacedPicture& picture, bool is_inline);

}  // namespace zerostep
