#pragma once
#include "experiments/plot/placed_picture.h"

namespace zerostep {

// Takes the picture's values; `size` is that of the picture as it is drawn. Labels stand at the ends of the curves where they fit without
// covering each other, in a legend otherwise.
PlacedPicture place_picture(Picture picture, PictureSize size);

// The height at which a picture of this width has its panels one below the other, with room for all of their texts.
double narrow_height(const Picture& picture, double width);

}  // namespace zerostep
