#pragma once
#include <string>

#include "experiments/plot/placed_picture.h"

namespace zerostep {

// The values that a picture shows, as lines of cells between tabs: panel, run, what, x, y, low and high of a band, and the color. Numbers
// have the digits that read back as the same. Rectangles have their two ends as x and y, and the name of their row in place of low.
std::string data_of(const PlacedPicture& picture);

}  // namespace zerostep
