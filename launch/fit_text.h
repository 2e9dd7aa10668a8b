#pragma once
#include <array>
#include <string>

#include "launch/fit.h"

namespace zerostep {

// What candidates of one placement differ in.
inline constexpr std::array kWithinPlacements{FitDimension::Recomputation, FitDimension::QueriesPerPass, FitDimension::MicroBatch,
                                              FitDimension::Residency};

// ", 75 % of the state offloaded"; "" where the candidate fills nothing.
std::string with_filling(const FitCandidate& candidate);
// "0.5 s a step, 2 k tokens/s, bound by compute".
std::string speed_text(const FitCandidate& candidate);
// Names a candidate's options in the dimensions where the search had a choice.
std::string options_text(const FitResult& result, const FitCandidate& candidate);
// Says why a candidate is not the best.
std::string reason_text(const FitResult& result, const FitCandidate& candidate);
// Says that nothing fits, what the candidate that is nearest to fitting goes without, and what helps. `where`: the machine.
std::string nowhere_text(const FitResult& result, const std::string& file, int world, const std::string& where);

}  // namespace zerostep
