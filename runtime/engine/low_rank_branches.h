#pragma once
#include <span>
#include <vector>

#include "models/branches.h"
#include "runtime/strategy/directions.h"
#include "runtime/strategy/strategy.h"

namespace zerostep {

// One trained parameter of a unit and what branches see of it.
struct BranchedParameter {
  const ParameterInfo* info;
  const float* values;                // of a vector: its unperturbed fp32 values; of a matrix: nullptr
  BranchPerturbation::Parameter out;  // as empty_branches() made it
};

// Tensors for the factors, or the values of a vector, that so many branches need of a parameter. Nothing is written.
BranchPerturbation::Parameter empty_branches(const Directions& directions, const ParameterInfo& info, int64_t branches);
// Writes them: matrices get the direction's factors, zeros for a plain branch; vectors fma(+-epsilon, z, value) in fp32. Launches on
// the stream of the directions.
void fill_branches(const Directions& directions, int64_t step, std::span<const ProbeBranch> branches,
                   const std::vector<BranchedParameter>& parameters);

}  // namespace zerostep
