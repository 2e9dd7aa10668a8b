#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plot/plot_run.h"
#include "experiments/plot/ticks.h"

namespace zerostep {

// What curves are drawn over. Values of a row are those after its step, but for the number of the step itself, which is the column's.
//   step      column step; the row where there is none
//   seconds   of training: the sum of step_seconds; the time since the first row (timestamp) where there is no such column
//   tokens    that steps have trained on: the sum of tokens_per_second x step_seconds, whole tokens
//   forwards  passes of a batch through the model: a forward counts 1, a backward 2; 2 a query with central differences, 1 and another for
//             all of them with forward ones
//   bytes     that the busiest rank has received: elements_gathered in the model's precision, elements_reduced in that of reductions
// Any other name is a column.
struct XAxis {
  std::string name, label;
  AxisUnit unit = AxisUnit::Number;
};
XAxis x_axis(const std::string& name);
std::vector<std::string_view> columns_of(const XAxis& axis);

// A value a row. InputError naming file and column where the run lacks what the axis needs.
std::vector<double> x_values(const PlotRun& run, const XAxis& axis);

// Whether the mode of a run has steps of both kinds, backprop and queries.
bool mixes_steps(const PlotRun& run);

// What the step of each row makes, as the run's configuration or its column mode says. InputError where neither does.
struct StepMakes {
  bool backprop = false, queries = false;
};
std::vector<StepMakes> steps_make(const PlotRun& run);

// The words of a column, and what its values are.
std::string label_of_column(std::string_view name);
AxisUnit unit_of_column(std::string_view name);

}  // namespace zerostep
