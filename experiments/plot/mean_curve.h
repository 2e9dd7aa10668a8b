#pragma once
#include <cstddef>
#include <vector>

namespace zerostep {

// Curves of several runs as one: their mean, and the lowest and the highest of them.
struct MeanCurve {
  std::vector<double> x, mean, low, high;
  bool falls = false;  // there are no points since x falls somewhere, where it had to rise
};

// Curves with other x than each other have their mean at all of them while they are so many points a curve or fewer.
constexpr size_t kMostMeanPoints = 8192;

// The mean of all the curves, from where the last of them begins to where the first one ends, so that it never jumps because a curve ends.
// `x` and `y`: one of each a curve, finite. No points where the curves share no x.
//
// Curves that have the same x as far as the shortest of them goes, in whatever order those are, have a mean in each row. Other curves have
// one at each x of any of them: a curve lies on the line between its neighbouring points there, and its points of one x are one, at their
// mean. Their x must not fall; where x falls there are no points, and `falls` says why.
//
// Of more than kMostMeanPoints points a curve, the mean is taken at fewer x, since each is one of all curves: of each 2048th part of the
// shared x those of every curve's first, last, lowest and highest point. So the band has the lowest and the highest point that any curve
// has in a part, and the mean every spike of one; both are exact at each x.
MeanCurve mean_curve(std::vector<std::vector<double>> x, std::vector<std::vector<double>> y);

}  // namespace zerostep
