#pragma once
#include <vector>

namespace zerostep {

// Curves of several runs as one: their mean, and the lowest and the highest of them.
struct MeanCurve {
  std::vector<double> x, mean, low, high;
};

// The mean of all the curves, from where the last of them begins to where the first one ends, so that it never jumps because a curve ends.
// `x` and `y`: one of each a curve, finite. Where one curve's x begin as the other's do, row by row. Else at every x of any of them, where
// a curve lies on the line between its neighbouring points and points with one x are one, at their mean; x must not fall then. No points
// where the curves share no x, or where x falls.
MeanCurve mean_curve(const std::vector<std::vector<double>>& x, const std::vector<std::vector<double>>& y);

}  // namespace zerostep
