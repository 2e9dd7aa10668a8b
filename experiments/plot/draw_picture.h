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
    // As there is room for them; the panel has them whole.
    std::string title, x_label, y_label;
    double left = 0, title_left = 0;  // of its cell; of its title
    double x_label_middle = 0;
    std::vector<std::string> row_names;
    double row_size = 11;  // of the names of rows
  };
  Picture head;                       // without its panels
  std::vector<std::string> subtitle;  // its lines
  PictureSize size;                   // as it is drawn
  // Of places as they are drawn to places here: below 1 where panels would be too small for their texts.
  double factor = 1;
  std::vector<Place> places;
  std::vector<Entry> legend;
};

// Takes the picture's values; `size` is that of the picture as it is drawn. Labels stand at the ends of the curves where they fit without
// covering each other, in a legend otherwise.
PlacedPicture place_picture(Picture picture, PictureSize size);
// The height at which a picture of this width has its panels one below the other, with room for all of their texts.
double narrow_height(const Picture& picture, double width);
void draw(const PlacedPicture& picture, Canvas& canvas);

}  // namespace zerostep
