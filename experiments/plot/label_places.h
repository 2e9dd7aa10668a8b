#pragma once
#include <vector>

namespace zerostep {

// Heights at which labels that want to stand at `wanted` do not cover each other: at least `spacing` apart, within [top, bottom], as little
// moved as that allows (the sum of squares). Empty where they do not fit.
std::vector<double> spread(const std::vector<double>& wanted, double spacing, double top, double bottom);

}  // namespace zerostep
