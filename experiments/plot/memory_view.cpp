#include <cmath>

#include "experiments/plot/colors.h"
#include "experiments/plot/view_parts.h"

namespace zerostep {

std::optional<Picture> memory_view(const PlotInput& input) {
  const Color measured_color = color_of_name(5, 8), planned_color = color_of_name(1, 8);
  Picture out;
  out.name = "memory";
  out.title = "Memory of the busiest rank";
  out.subtitle = runs_of(input);
  for (const char* tier : {"device", "host", "file"}) {
    Panel panel;
    panel.title = capital(tier);
    panel.x = {"highest so far", AxisUnit::Bytes, false, true};
    for (const PlotRun& run : input.runs) {
      const std::string column = std::string(tier) + "_peak_bytes";
      const double measured = highest(run.column(column)), planned = run.record.planned_bytes(tier);
      if (!(measured > 0) && !(planned > 0)) continue;
      const auto row = static_cast<double>(panel.rows.size());
      panel.rows.push_back(run.record.name);
      if (std::isfinite(measured)) panel.blocks.push_back({run.record.name, column, 0, measured, row - 0.3, row + 0.3, measured_color, ""});
      if (!std::isfinite(planned)) continue;
      panel.curves.push_back(
          {run.record.name, column + " (planned)", "", planned_color, {planned, planned}, {row - 0.42, row + 0.42}, {}, {}});
    }
    if (!panel.blocks.empty()) out.panels.push_back(std::move(panel));
  }
  out.notes.push_back({"measured", measured_color, Curve::Form::Line, true});
  out.notes.push_back({"planned", planned_color, Curve::Form::Line, false});
  return has_curves(out) ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace zerostep
