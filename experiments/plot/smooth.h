#pragma once
#include <span>
#include <vector>

namespace zerostep {

// The exponential mean of a curve: m = a m + (1 - a) y from m = 0, each divided by 1 - a^k after k values, so that the first values are
// not drawn to 0. What is no number stays as it is and does not count. a in [0, 1); 0 changes nothing.
std::vector<double> smoothed(std::span<const double> values, double a);

}  // namespace zerostep
