#pragma once
#include "experiments/plot/placed_picture.h"

namespace zerostep {

void draw(const PlacedPicture& picture, Canvas& canvas);

}  // namespace zerostep
