#include <utility>

#include "experiments/plot/evaluation_sets.h"

namespace zerostep {

std::optional<Picture> accuracy_view(const PlotInput& input) {
  Grouping groups = input.by.empty() ? group_each(input.runs) : group_by_key(input.runs, input.by);
  if (input.runs.size() > 1)
    for (size_t g = 0; g < groups.labels.size(); ++g) groups.labels[g] += flaws_of(input, groups, g);
  Picture out;
  out.name = "accuracy";
  out.title = "Evaluation accuracy";
  out.subtitle = runs_of(input);
  Panel panel = curve_panel(input, "", "eval_accuracy");
  EvaluationCurves evaluations(input, "eval_accuracy");
  for (size_t i : groups.order()) evaluations.add(panel, i, groups);
  if (evaluations.is_empty()) return std::nullopt;
  // The first set is solid, so that its curve names the run.
  for (Curve& curve : panel.curves)
    if (curve.dashes == 0) curve.form = Curve::Form::Line;
  if (std::vector<LegendEntry> notes = evaluations.notes(); notes.size() > 1) {
    for (LegendEntry& entry : notes)
      if (entry.dashes == 0) entry.form = Curve::Form::Line;
    out.notes = std::move(notes);
  }
  out.panels.push_back(std::move(panel));
  return out;
}

}  // namespace zerostep
