#pragma once
#include <cmath>
#include <limits>

namespace zerostep {

// Processors give NaN a sign that says nothing, and printing shows it.
inline double without_sign_of_nan(double value) { return std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value; }

}  // namespace zerostep
