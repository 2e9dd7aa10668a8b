#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "models/parameter.h"

namespace zerostep {

// Elements [first, first + count) of a parameter that is trained, which one rank alone owns, with their reduced gradient (nullptr where
// gradients have no memory).
struct OwnedGradient {
  const ParameterInfo* parameter;
  int64_t first, count;
  const float* gradient;
};

// Adds up values over the ranks that own the parameters between them. Collective.
using AddOverRanks = std::function<void(std::span<double> values, const char* what)>;

}  // namespace zerostep
