#include <cmath>
#include <limits>

#include "experiments/plot/mean_curve.h"
#include "experiments/plot/smooth.h"
#include "experiments/plot/summary.h"
#include "experiments/plot/view_parts.h"

namespace zerostep {
namespace {

void add_mean_curve(Panel& panel, const PlotInput& input, const std::string& column, const Grouping& groups, size_t group) {
  std::vector<std::vector<double>> x, y;
  for (size_t i = 0; i < input.runs.size(); ++i) {
    if (groups.of_run[i] != group) continue;
    std::vector<double> own_x, own_y;
    const std::span<const double> values = input.runs[i].column(column);
    for (size_t k = 0; k < values.size(); ++k)
      if (std::isfinite(values[k])) {
        own_x.push_back(input.x_values[i][k]);
        own_y.push_back(values[k]);
      }
    if (own_x.empty()) continue;
    x.push_back(std::move(own_x));
    y.push_back(smoothed(own_y, input.smooth));
  }
  if (x.empty()) return;
  MeanCurve mean = mean_curve(x, y);
  Curve curve{groups.labels[group], column + " (mean)",   groups.labels[group], groups.colors[group],
              std::move(mean.x),    std::move(mean.mean), std::move(mean.low),  std::move(mean.high)};
  if (x.size() == 1) {
    curve.low.clear();
    curve.high.clear();
  }
  panel.curves.push_back(std::move(curve));
}

}  // namespace

std::optional<Picture> compare_view(const PlotInput& input) {
  const Grouping groups = input.by.empty() ? group_by_settings(input.runs) : group_by_key(input.runs, input.by);
  const std::string column = input.value_column(), label = label_of_column(column);
  Picture out;
  out.name = "compare";
  out.title = "Comparison";
  out.subtitle = runs_of(input) + (groups.title.empty() ? ", together where no more than the seed differs" : "") +
                 "; means, from the lowest to the highest run" + smoothing_note(input);
  Panel curves = curve_panel(input, "Mean " + label, column);
  for (size_t g = 0; g < groups.labels.size(); ++g) add_mean_curve(curves, input, column, groups, g);
  settle_log(curves);
  out.panels.push_back(std::move(curves));
  if (!has_curves(out)) return std::nullopt;
  const auto add_rows = [&](const std::string& title, const std::string& name, AxisUnit unit, const std::vector<double>& values) {
    Panel panel = row_panel(title, name, unit, groups, values, name == "tokens a second");
    if (!panel.curves.empty()) out.panels.push_back(std::move(panel));
  };
  add_rows("Final " + label + " (mean of the last 5 %)", label, unit_of_column(column), final_values(input, column));
  std::vector<double> speeds, spreads;
  for (const PlotRun& run : input.runs) {
    speeds.push_back(speed_of(run));
    spreads.push_back(deviation_of_last_fifth(run.column(column)));
  }
  add_rows("Speed", "tokens a second", AxisUnit::Number, speeds);
  add_rows("Stability", "standard deviation of the last fifth of the " + label, unit_of_column(column), spreads);
  return out;
}

}  // namespace zerostep
