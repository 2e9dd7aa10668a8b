#pragma once

namespace zerostep {

// The weights of a mixture are multiples of one part in so many (2^40) of their sum, and one at least: no source has a smaller share.
inline constexpr double kMixtureUnits = 1099511627776.0;

}  // namespace zerostep
