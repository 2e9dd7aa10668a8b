#pragma once
#include <string>
#include <vector>

#include "experiments/plot/picture.h"
#include "experiments/plot/views.h"

namespace zerostep {

// A panel of curves over the input's x.
Panel curve_panel(const PlotInput& input, const std::string& title, const std::string& column);

// The curve of a run's column, where it has one number at least: smoothed over its pale self where the input asks for that.
void add_curve(Panel& panel, const PlotInput& input, size_t run, const std::string& column, const Grouping& groups,
               Curve::Form form = Curve::Form::Line);

// A logarithmic y where all values are positive and the highest is more than 200 times the lowest, so that the small ones show.
void settle_log(Panel& panel);

// Values of runs in rows, one for each group, with a bar at the mean of a row. `values`: one a run, NaN of those without.
Panel row_panel(const std::string& title, const std::string& column, AxisUnit unit, const Grouping& groups,
                const std::vector<double>& values, bool has_zero);

// The mean of the last 5 % of a column, one a run.
std::vector<double> final_values(const PlotInput& input, const std::string& column);

std::string smoothing_note(const PlotInput& input);  // ", exponential mean 0.9"
// "12 runs", or the name of the only one.
std::string runs_of(const PlotInput& input);
bool has_curves(const Picture& picture);

// With a capital letter.
std::string capital(std::string text);

}  // namespace zerostep
