#pragma once
#include <vector>

#include "experiments/plot/canvas.h"
#include "experiments/plot/picture.h"

namespace zerostep {

// A picture with the place of everything, and its curves reduced to the points that its pixels show.
struct PlacedPicture {
  struct Label {
    Point at, from;  // baseline of its first character; the end of the curve
    std::string text;
    Color color;
  };
  struct Entry {
    Point at;  // the middle of the left edge
    LegendEntry entry;
  };
  struct Place {
    Panel panel;
    Box box;
    Scale x, y;
    std::vector<Label> labels;
    double row_size = 11;  // of the names of its rows
  };
  Picture head;  // without its panels
  PictureSize size;
  std::vector<Place> places;
  std::vector<Entry> legend;
};

// Takes the picture's values. Labels stand at the ends of the curves where they fit without covering each other, in a legend otherwise.
PlacedPicture place_picture(Picture picture, PictureSize size);
void draw(const PlacedPicture& picture, Canvas& canvas);

}  // namespace zerostep
