#pragma once
#include <string>
#include <vector>

#include "experiments/plot/picture.h"
#include "experiments/plot/views.h"

namespace zerostep {

// An axis of a column's values, logarithmic where the input asks for that; one of cosines never is.
PlotAxis value_axis(const PlotInput& input, const std::string& label, const std::string& column);

// A panel of curves over the input's x.
Panel curve_panel(const PlotInput& input, const std::string& title, const std::string& column);

// The rows of a run that have a number in a column and a place on the axis.
struct RunPoints {
  std::vector<double> x, y;
};
RunPoints points_of(const PlotInput& input, size_t run, const std::string& column);

// The curve of a run's column, where it has one number at least: smoothed over its pale self where the input asks for that.
void add_curve(Panel& panel, const PlotInput& input, size_t run, const std::string& column, const Grouping& groups,
               Curve::Form form = Curve::Form::Line);

// A logarithmic y where all values, those of bands too, are positive and the highest is more than 200 times the lowest, so that the small
// ones show; not where the axis is always linear.
void settle_log(Panel& panel);

// The runs of a group that a mean is of: those that neither failed nor were killed nor diverged; all where none is left.
std::vector<size_t> runs_of_mean(const PlotInput& input, const Grouping& groups, size_t group);
// What a name of the group says of its runs with a flaw: " (failed)" of one alone, else " (1 failed, 2 diverged)"; "" without any.
std::string flaws_of(const PlotInput& input, const Grouping& groups, size_t group);
// The color of such a run in place of another, and the entry for their dots.
Color flawed(const Color& color);
LegendEntry flawed_dots();

// Values of runs in rows, one for each group, with a bar at the mean of a row and runs with a flaw pale. `values`: one a run, NaN of those
// without.
Panel row_panel(const PlotInput& input, const std::string& title, const PlotAxis& axis, const Grouping& groups,
                const std::vector<double>& values);

// The mean of the last 5 % of a column's numbers, one a run, NaN of one that no loss can be; its axis, "final loss", and what a subtitle
// says of it.
std::vector<double> final_values(const PlotInput& input, const std::string& column);
PlotAxis final_axis(const PlotInput& input, const std::string& column);
std::string final_note(const std::string& column);

std::string smoothing_note(const PlotInput& input);  // ", exponential mean 0.9"
// "12 runs", or the name of the only one; of all, or of those of these indices.
std::string runs_of(const PlotInput& input);
std::string runs_of(const PlotInput& input, std::span<const size_t> runs);
bool has_curves(const Picture& picture);

// With a capital letter.
std::string capital(std::string text);

}  // namespace zerostep
