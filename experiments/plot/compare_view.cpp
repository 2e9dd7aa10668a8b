#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/first_names.h"
#include "base/format.h"
#include "experiments/plot/mean_curve.h"
#include "experiments/plot/smooth.h"
#include "experiments/plot/view_parts.h"

namespace zerostep {
namespace {

// The mean curves of groups, and what is to be said of them.
struct Means {
  std::vector<Curve> curves;
  std::vector<int64_t> counts;       // of the runs of each curve
  std::vector<bool> are_flawed;      // these runs, which its label says then
  std::vector<std::string> without;  // groups whose runs share no part of the axis
  std::vector<std::string> falling;  // groups that have no mean since x falls in their runs
};

void add_mean(Means& means, const PlotInput& input, const std::string& column, const Grouping& groups, size_t group) {
  std::vector<std::vector<double>> x, y;
  const std::vector<size_t> runs = runs_of_mean(input, groups, group);
  for (size_t i : runs) {
    RunPoints points = points_of(input, i, column);
    if (points.x.empty()) continue;
    x.push_back(std::move(points.x));
    y.push_back(smoothed(points.y, input.smooth));
  }
  if (x.empty()) return;
  const bool are_flawed = !input.runs[runs[0]].flaw().empty();  // all of them then
  const std::string label = groups.labels[group] + (are_flawed ? flaws_of(input, groups, group) : "");
  const int64_t count = std::ssize(x);
  if (count == 1) {
    means.curves.push_back({label, column, label, groups.colors[group], std::move(x[0]), std::move(y[0]), {}, {}});
  } else {
    MeanCurve mean = mean_curve(std::move(x), std::move(y));
    if (mean.x.empty()) return (mean.falls ? means.falling : means.without).push_back(label);
    means.curves.push_back({label, column + " (mean)", label, groups.colors[group], std::move(mean.x), std::move(mean.mean),
                            std::move(mean.low), std::move(mean.high)});
  }
  means.counts.push_back(count);
  means.are_flawed.push_back(are_flawed);
}

// How many runs each mean is of: in the subtitle where that is one number, else in the labels.
std::string say_counts(Means& means) {
  const auto [least, most] = std::minmax_element(means.counts.begin(), means.counts.end());
  if (least == means.counts.end() || *most == 1) return "";
  std::string of = "means of " + counted(*least, "run");
  if (*least < *most) {
    of = "means";
    for (size_t i = 0; i < means.curves.size(); ++i)
      if (!means.are_flawed[i]) means.curves[i].label += fmt::format(" ({})", counted(means.counts[i], "run"));
  }
  return "; " + of + " as far as all of them go, in a band from the lowest to the highest";
}

}  // namespace

std::optional<Picture> compare_view(const PlotInput& input) {
  const Grouping groups = input.by.empty() ? group_by_settings(input.runs) : group_by_key(input.runs, input.by);
  const std::string column = input.value_column(), label = label_of_column(column);
  Means means;
  for (size_t g = 0; g < groups.labels.size(); ++g) add_mean(means, input, column, groups, g);
  if (means.curves.empty() && means.without.empty() && means.falling.empty()) return std::nullopt;
  Picture out;
  out.name = "compare";
  out.title = "Comparison";
  out.subtitle = runs_of(input) + (groups.title.empty() ? ", grouped by all that they do but the seed" : "") + say_counts(means);
  std::vector<std::string> left_out;
  for (size_t g = 0; g < groups.labels.size(); ++g) {
    const std::vector<size_t> runs = runs_of_mean(input, groups, g);
    for (size_t i = 0; i < input.runs.size(); ++i)
      if (groups.of_run[i] == g && std::find(runs.begin(), runs.end(), i) == runs.end())
        left_out.push_back(fmt::format("{} ({})", input.runs[i].record.name, input.runs[i].flaw()));
  }
  if (!left_out.empty()) out.subtitle += "; left out of the mean curves: " + first_names(left_out);
  if (!means.falling.empty())
    out.subtitle += fmt::format("; no mean where {} falls from one row to the next: {}", input.x.label, first_names(means.falling));
  if (!means.without.empty()) out.subtitle += "; no mean where runs share no part of the axis: " + first_names(means.without);
  out.subtitle += smoothing_note(input);
  Panel curves = curve_panel(input, "Mean " + label, column);
  curves.curves = std::move(means.curves);
  settle_log(curves);
  if (!curves.curves.empty()) out.panels.push_back(std::move(curves));
  if (input.only_curves) return has_curves(out) ? std::optional(std::move(out)) : std::nullopt;
  const auto add_rows = [&](const std::string& title, const PlotAxis& axis, const std::vector<double>& values) {
    Panel panel = row_panel(input, title, axis, groups, values);
    if (!panel.curves.empty()) out.panels.push_back(std::move(panel));
  };
  add_rows(capital("final " + label) + " (mean of the last 5 %)", final_axis(input, column), final_values(input, column));
  std::vector<double> speeds, spreads;
  for (const PlotRun& run : input.runs) {
    speeds.push_back(mean_speed(run.table));
    spreads.push_back(run.has_diverged ? std::numeric_limits<double>::quiet_NaN() : deviation_of_last_fifth(run.column(column)));
  }
  add_rows("Speed", {"tokens a second", AxisUnit::Number, input.is_log, true}, speeds);
  add_rows("Stability", {"standard deviation of the last fifth of the " + label, unit_of_column(column), input.is_log, false}, spreads);
  if (std::any_of(input.runs.begin(), input.runs.end(), [](const PlotRun& run) { return !run.flaw().empty(); }))
    out.notes.push_back(flawed_dots());
  return has_curves(out) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace zerostep
