#pragma once
#include <vector>

#include "experiments/plot/placed_picture.h"

namespace zerostep {

// The curves of a panel that have a label of their own: one for each label, the first that is no dashed or faint one.
std::vector<const Curve*> labelled(const Panel& panel);
// An entry for each label of the picture's curves.
std::vector<LegendEntry> legend_of(const Picture& picture);

// A legend in lines that are `width` wide and `most_height` high together, from a point on: notes, then entries, whose labels are made
// shorter where they are too wide. What has no room there is counted by the last entry.
struct PlacedLegend {
  std::vector<PlacedPicture::Entry> entries;
  std::vector<std::string> unnamed;  // labels, whole, that have no room, or none to be told apart
  double height = 0;
};
PlacedLegend place_legend(const std::vector<LegendEntry>& notes, std::vector<LegendEntry> entries, Point at, double width,
                          double most_height);

}  // namespace zerostep
