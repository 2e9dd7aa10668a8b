#include <algorithm>

#include "experiments/plot/colors.h"
#include "experiments/plot/evaluation_sets.h"

namespace zerostep {

std::optional<Picture> loss_view(const PlotInput& input) {
  Grouping groups = input.by.empty() ? group_each(input.runs) : group_by_key(input.runs, input.by);
  if (input.runs.size() > 1)
    for (size_t g = 0; g < groups.labels.size(); ++g) groups.labels[g] += flaws_of(input, groups, g);
  std::vector<std::string> columns = input.y.empty() ? std::vector<std::string>{"loss", "eval_loss"} : input.y;
  // An evaluation loss beside the loss is drawn over it, dashed, of each named set for itself.
  const bool has_loss = std::find(columns.begin(), columns.end(), "loss") != columns.end();
  const bool is_beside = has_loss && std::find(columns.begin(), columns.end(), "eval_loss") != columns.end();
  if (is_beside) std::erase(columns, "eval_loss");
  Picture out;
  out.name = "loss";
  EvaluationCurves evaluations(input, "eval_loss");
  for (const std::string& column : columns) {
    Panel panel = curve_panel(input, columns.size() > 1 ? capital(label_of_column(column)) : "", column);
    for (size_t i : groups.order()) {
      add_curve(panel, input, i, column, groups);
      if (column == "loss" && is_beside) evaluations.add(panel, i, groups);
    }
    settle_log(panel);
    if (!panel.curves.empty()) out.panels.push_back(std::move(panel));
  }
  if (!has_curves(out)) return std::nullopt;
  out.title = columns.size() == 1 ? capital(label_of_column(columns[0])) : "Curves";
  if (!evaluations.is_empty()) {
    out.notes.push_back({"training", kPale, Curve::Form::Line, false});
    for (LegendEntry& entry : evaluations.notes()) out.notes.push_back(std::move(entry));
  }
  out.subtitle = runs_of(input) + smoothing_note(input);
  return out;
}

}  // namespace zerostep
