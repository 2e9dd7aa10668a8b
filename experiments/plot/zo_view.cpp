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

// Final values against the number of queries: a dot a run, pale with a flaw, and a line through the means of the others of each mode, or of
// each group where runs are grouped by a key that is asked for.
Panel against_queries(const PlotInput& input, std::span<const size_t> runs, const std::string& column, const Grouping& by_key) {
  Panel out;
  out.y = final_axis(input, column);
  out.title = capital(out.y.label) + " against queries";
  out.x = {"queries a step", AxisUnit::Number, true, false};
  const std::vector<double> values = final_values(input, column);
  const bool is_by_key = !input.by.empty();
  const Grouping groups = is_by_key ? by_key : group_by_key(input.runs, runs, "step.mode");
  std::set<double> marks;
  for (size_t g = 0; g < groups.labels.size(); ++g) {
    // Of one mode alone the color says nothing, and is none of those that stand for numbers of queries.
    const bool is_alone = !is_by_key && groups.labels.size() == 1;
    const Color color = is_alone ? kInk : groups.colors[g];
    std::map<double, std::vector<double>> of_queries;
    for (size_t i : runs) {
      if (!std::isfinite(values[i]) || groups.of_run[i] != g) continue;
      const double queries = queries_of(input.runs[i]);
      const bool is_flawed = !input.runs[i].flaw().empty();
      const std::string what = out.y.label + (is_flawed ? " (" + flawed_dots().label + ")" : "");
      Curve dot{input.runs[i].record.name, what, is_alone || is_flawed ? "" : groups.labels[g], color, {queries}, {values[i]}, {}, {}};
      dot.form = Curve::Form::Dots;
      if (is_flawed) dot.color = flawed(color);
      out.curves.push_back(std::move(dot));
      if (!is_flawed) of_queries[queries].push_back(values[i]);
      marks.insert(queries);
    }
    Curve means{(is_by_key ? "mean of " : "mean of mode ") + groups.labels[g], out.y.label, "", color.faded(0.6), {}, {}, {}, {}};
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
  out.panels.push_back(against_queries(input, runs, column, groups));
  for (const char* beside : {"grad_norm", "cosine"})
    if (column != beside) add_curves(beside);
  if (std::any_of(runs.begin(), runs.end(), [&](size_t i) { return !input.runs[i].flaw().empty(); })) out.notes.push_back(flawed_dots());
  return has_curves(out) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace zerostep
