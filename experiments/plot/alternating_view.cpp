#include <cmath>

#include "experiments/plot/colors.h"
#include "experiments/plot/view_parts.h"

namespace zerostep {

std::optional<Picture> alternating_view(const PlotInput& input) {
  Picture out;
  out.name = "alternating";
  out.title = "Backprop steps and queries";
  Panel losses = curve_panel(input, "Loss", "loss"), norms = curve_panel(input, "Norm of the gradient, or of its estimate", "grad_norm");
  std::vector<size_t> mixed;
  for (size_t i = 0; i < input.runs.size(); ++i)
    if (mixes_steps(input.runs[i])) mixed.push_back(i);
  if (mixed.empty()) return std::nullopt;
  size_t colors = 0;
  for (size_t i : mixed) {
    const PlotRun& run = input.runs[i];
    const std::vector<StepMakes> makes = steps_make(run);
    for (bool is_backprop : {false, true}) {
      const Color color = color_of_name(colors++, 2 * mixed.size());
      const std::string label = (mixed.size() > 1 ? run.record.name + ", " : "") + (is_backprop ? "backprop" : "queries");
      for (Panel* panel : {&losses, &norms}) {
        const std::string column = panel == &norms ? "grad_norm" : "loss";
        Curve curve{run.record.name, column + (is_backprop ? " (backprop)" : " (queries)"), label, color, {}, {}, {}, {}};
        const std::span<const double> values = run.column(column), of_backprop = run.column("bp_loss");
        for (size_t k = 0; k < values.size(); ++k) {
          // Where backprop reads data of its own its loss has a column of its own.
          const bool is_own = is_backprop && panel == &losses && k < of_backprop.size() && std::isfinite(of_backprop[k]);
          const double value = is_own ? of_backprop[k] : values[k];
          if (makes[k].backprop != is_backprop || !std::isfinite(value) || !std::isfinite(input.x_values[i][k])) continue;
          curve.x.push_back(input.x_values[i][k]);
          curve.y.push_back(value);
        }
        if (!curve.x.empty()) panel->curves.push_back(std::move(curve));
      }
    }
  }
  out.subtitle = runs_of(input, mixed);
  for (Panel* panel : {&losses, &norms}) {
    settle_log(*panel);
    if (!panel->curves.empty()) out.panels.push_back(std::move(*panel));
  }
  return has_curves(out) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace zerostep
