#include <algorithm>

#include "experiments/plot/colors.h"
#include "experiments/plot/view_parts.h"

namespace zerostep {

std::optional<Picture> overview_view(const PlotInput& input) {
  constexpr const char* kModeKey = "step.mode";
  const std::string column = input.value_column();
  const std::string key = input.by.empty() ? kModeKey : input.by;
  const Grouping modes = group_by_key(input.runs, key);
  Picture out;
  out.name = "overview";
  out.title = "Overview";
  out.subtitle = runs_of(input) + "; " + final_note(column) + smoothing_note(input);
  Panel curves = curve_panel(input, capital(label_of_column(column)), column);
  for (size_t i : modes.order()) add_curve(curves, input, i, column, modes);
  settle_log(curves);
  out.panels.push_back(std::move(curves));
  if (!has_curves(out)) return std::nullopt;
  const std::vector<double> values = final_values(input, column);
  std::vector<std::string> paths{key};
  for (const char* path : {kModeKey, "step.scope", "train_batch_size"})
    if (path != key) paths.emplace_back(path);
  for (const std::string& path : paths) {
    Grouping groups = group_by_key(input.runs, path, false);
    if (path != key) std::fill(groups.colors.begin(), groups.colors.end(), kInk);  // the legend names the colors of another key
    if (groups.labels.size() == 1 && path != key) continue;                        // it tells nothing apart
    const PlotAxis axis = final_axis(input, column);
    out.panels.push_back(row_panel(input, capital(axis.label) + " by " + groups.title, axis, groups, values));
  }
  if (std::any_of(input.runs.begin(), input.runs.end(), [](const PlotRun& run) { return !run.flaw().empty(); }))
    out.notes.push_back(flawed_dots());
  return out;
}

}  // namespace zerostep
