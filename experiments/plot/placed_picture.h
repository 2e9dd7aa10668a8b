#pragma once
#include <set>
#include <string>
#include <vector>

#include "experiments/plot/canvas.h"
#include "experiments/plot/picture.h"
#include "experiments/plot/ticks.h"

namespace zerostep {

// A panel with the pixels of everything in it, and its curves reduced to the points that these show.
struct PlacedPanel {
  struct Label {
    Point at, from;  // baseline of its first character; the end of the curve
    std::string text;
    Color color;
  };
  Panel panel;
  double left = 0;  // of its cell, which the texts around the box take a part of
  Box box;
  Scale x, y;
  std::vector<Tick> x_ticks, y_ticks;  // none of rows
  std::vector<Label> labels;
  // As there is room for them; the panel has them whole.
  std::string title, x_label, y_label;
  double title_left = 0, x_label_middle = 0, y_label_baseline = 0;  // y_label is turned: the baseline is its right edge
  std::vector<std::string> row_names;
  double row_size = 11;   // of the names of rows
  size_t row_stride = 1;  // every so many rows are named
};

// A picture with the pixels of everything.
struct PlacedPicture {
  struct Entry {
    Point at;  // the middle of the left edge
    LegendEntry entry;
  };
  Picture head;                       // without its panels
  std::vector<std::string> subtitle;  // its lines
  PictureSize size;                   // as it is drawn
  // Of pixels as they are drawn to pixels here: below 1 where panels would be too small for their texts.
  double factor = 1;
  std::vector<PlacedPanel> panels;
  std::vector<Entry> legend;
  std::set<std::string> names;       // of curves that need one, and of rows
  std::vector<std::string> unnamed;  // those of them that have no room, or none to be told apart
};

}  // namespace zerostep
