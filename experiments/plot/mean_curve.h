#pragma once
#include <span>
#include <vector>

namespace zerostep {

// Curves of several runs as one: their mean, and the lowest and the highest of them.
struct MeanCurve {
  std::vector<double> x, mean, low, high;
};

// `x` and `y`: one of each a run, finite, x not falling. Where the runs have the same x, row by row as long as half of them go on; else at
// 400 places that all of them have, between whose neighbouring points values lie on a line.
MeanCurve mean_curve(const std::vector<std::vector<double>>& x, const std::vector<std::vector<double>>& y);

}  // namespace zerostep
