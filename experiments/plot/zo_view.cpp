#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <numeric>
#include <set>

#include "experiments/plot/colors.h"
#include "experiments/plot/view_parts.h"

namespace zerostep {
namespace {

double queries_of(const PlotRun& run) { return std::atof(run.value("step.queries").c_str()); }

// Runs that make queries, by their indices: those with the number of queries, and a mode other than fo.
std::vector<size_t> runs_with_queries(const PlotInput& input) {
  std::vector<size_t> out;
  for (size_t i = 0; i < input.runs.size(); ++i)
    if (input.runs[i].value("step.mode") != "fo" && queries_of(input.runs[i]) > 0) out.push_back(i);
  return out;
}

// Final values against the number of queries: a dot a run, a line through the means of each mode, without runs that failed or were
// killed where there are others.
Panel against_queries(const PlotInput& input, std::span<const size_t> runs, const std::string& column) {
  Panel out;
  out.y = final_axis(input, column);
  out.title = capital(out.y.label) + " against queries";
  out.x = {"queries a step", AxisUnit::Number, true, false};
  const std::vector<double> values = final_values(input, column);
  const Grouping modes = group_by_key(input.runs, runs, "step.mode");
  std::set<double> marks;
  for (size_t m = 0; m < modes.labels.size(); ++m) {
    const std::string label = modes.labels.size() > 1 ? modes.labels[m] : "";
    Curve dots{"runs", out.y.label, label, modes.colors[m], {}, {}, {}, {}, Curve::Form::Dots};
    std::map<double, std::vector<double>> of_queries, of_broken;
    for (size_t i : runs) {
      if (!std::isfinite(values[i]) || modes.of_run[i] != m) continue;
      dots.run = input.runs[i].record.name;
      dots.x.assign(1, queries_of(input.runs[i]));
      dots.y.assign(1, values[i]);
      out.curves.push_back(dots);
      (input.runs[i].record.is_broken() ? of_broken : of_queries)[dots.x[0]].push_back(values[i]);
      marks.insert(dots.x[0]);
    }
    of_queries.merge(of_broken);  // where all runs of a number failed or were killed, their mean
    Curve means{"mean of mode " + modes.labels[m], out.y.label, "", modes.colors[m].faded(0.6), {}, {}, {}, {}};
    for (const auto& [queries, of_runs] : of_queries) {
      means.x.push_back(queries);
      means.y.push_back(std::accumulate(of_runs.begin(), of_runs.end(), 0.0) / static_cast<double>(of_runs.size()));
    }
    if (means.x.size() > 1) out.curves.push_back(std::move(means));
  }
  out.x.marks.assign(marks.begin(), marks.end());
  return out;
}

}  // namespace

std::optional<Picture> zo_view(const PlotInput& input) {
  const std::vector<size_t> runs = runs_with_queries(input);
  if (runs.empty()) return std::nullopt;
  const Grouping groups = group_by_key(input.runs, runs, input.by.empty() ? "step.queries" : input.by);
  const std::string column = input.value_column();
  Picture out;
  out.name = "zo";
  out.title = "Steps with queries";
  out.subtitle = runs_of(input, runs) + "; " + final_note(column) + smoothing_note(input);
  const auto add_curves = [&](const std::string& shown) {
    Panel panel = curve_panel(input, capital(label_of_column(shown)), shown);
    for (size_t i : groups.order()) add_curve(panel, input, i, shown, groups);
    settle_log(panel);
    if (!panel.curves.empty()) out.panels.push_back(std::move(panel));
  };
  add_curves(column);
  out.panels.push_back(against_queries(input, runs, column));
  for (const char* beside : {"grad_norm", "cosine"})
    if (column != beside) add_curves(beside);
  return has_curves(out) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace zerostep
