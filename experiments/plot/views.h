#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plot/grouping.h"
#include "experiments/plot/picture.h"
#include "experiments/plot/plot_run.h"
#include "experiments/plot/x_values.h"

namespace zerostep {

// What the views are made of.
struct PlotInput {
  std::vector<PlotRun> runs;
  XAxis x;
  std::vector<std::vector<double>> x_values;  // of each run, a value a row
  std::vector<std::string> y;                 // columns; none: the loss, with the evaluation loss beside it
  std::string by;                             // the path of a key; "": what the view takes for itself
  double smooth = 0;
  bool is_log = false;
  bool only_curves = false;  // of the comparison: without the panels that no x is of

  std::string value_column() const { return y.empty() ? "loss" : y[0]; }
};

struct View {
  std::string_view name;
  std::string_view shows;                 // a line for the help
  std::string_view needs;                 // what at least one run must have, for the message where nothing is there to show
  std::vector<std::string_view> columns;  // as MetricsTable::read() takes them
  std::optional<Picture> (*make)(const PlotInput& input);  // nothing: there is nothing to show
};
std::span<const View> all_views();

std::optional<Picture> loss_view(const PlotInput& input);
std::optional<Picture> accuracy_view(const PlotInput& input);
std::optional<Picture> overview_view(const PlotInput& input);
std::optional<Picture> zo_view(const PlotInput& input);
std::optional<Picture> compare_view(const PlotInput& input);
std::optional<Picture> alternating_view(const PlotInput& input);
std::optional<Picture> memory_view(const PlotInput& input);
std::optional<Picture> lanes_view(const PlotInput& input);

}  // namespace zerostep
