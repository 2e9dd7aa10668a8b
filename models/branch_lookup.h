#pragma once
#include "models/branches.h"
#include "models/unit.h"

namespace zerostep {

// Rows of a table [n, width] that `indices` [samples, T] name, as each branch sees them: [branches * B, T, width], branch-major. The
// indices are those of all branches (perturbation.own_batches) or shared. No row is perturbed that is not read.
at::Tensor branch_lookup(const at::Tensor& indices, const at::Tensor& table, const BranchPerturbation::Parameter& parameter,
                         const BranchPerturbation& perturbation);

}  // namespace zerostep
