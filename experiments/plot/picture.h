#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "experiments/plot/canvas.h"
#include "experiments/plot/ticks.h"

namespace zerostep {

// What a picture shows, in values; place_picture() gives them pixels.

struct Curve {
  std::string run;    // or the group of runs, as the data file calls it
  std::string what;   // the column, as the data file calls it
  std::string label;  // at its end, or in the legend; curves with one label have one color
  Color color;
  std::vector<double> x, y;
  std::vector<double> low, high;  // of a band around it; none: no band
  enum class Form : uint8_t { Line, Dashed, Faint, Dots } form = Form::Line;
  size_t dashes = 0;  // Dashed: which dashes, of the few that can be told apart
};

// A rectangle from one value to another.
struct Block {
  std::string run, what;
  double left = 0, right = 0, top = 0, bottom = 0;
  Color color;
  std::string label;  // within it where there is room
};

struct PlotAxis {
  std::string label;
  AxisUnit unit = AxisUnit::Number;
  bool is_log = false;
  bool has_zero = false;           // the scale begins at 0
  std::vector<double> marks = {};  // where its ticks stand; none: at round values
  bool is_always_linear = false;   // whatever its values are and whoever asks: cosines
};

struct Panel {
  std::string title;  // "": the picture's says it
  PlotAxis x, y;
  // Names of the rows 0, 1, ... from above, in place of values of y.
  std::vector<std::string> rows;
  std::vector<Curve> curves;
  std::vector<Block> blocks;
};

struct LegendEntry {
  std::string label;
  Color color;
  Curve::Form form = Curve::Form::Line;
  bool is_block = false, is_text = false;  // is_text: without a mark
  size_t dashes = 0;                       // as a curve's
};

struct Picture {
  std::string name;  // of its files
  std::string title, subtitle;
  std::vector<Panel> panels;
  std::vector<LegendEntry> notes;  // legend entries that hold for every color ("training", "evaluation")
  bool is_grouped = false;         // by a key that was asked for, whose value is named though there is but one
};

struct PictureSize {
  double width = 960, height = 600;
};

}  // namespace zerostep
