#pragma once

namespace zerostep {

// Lengths of a picture in pixels, before it is scaled as a whole, that its layout and its drawing share.
constexpr double kPictureEdge = 14;  // free around everything
constexpr double kPictureTitleSize = 15;
constexpr double kSubtitleLine = 14;  // from one line to the next
constexpr double kPanelTitleSize = 12;
constexpr double kTextSize = 11;    // of all other texts
constexpr double kTickGap = 6;      // between a panel and the texts beside it
constexpr double kLeadWidth = 14;   // of the dotted lead from a curve's end to its label
constexpr double kLegendMark = 25;  // the width of a mark with the gap before its text

}  // namespace zerostep
