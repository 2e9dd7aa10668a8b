#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace zerostep {

// How each of several branches of a forward sees a unit's parameters: all share the plain weights, each adds something of its own. Low-rank
// directions (LOZO, arXiv 2410.07698) need no perturbed matrix: x (W + left right) = x W + (x left) right, and x W is one product for all.
struct BranchPerturbation {
  // One per parameter of the unit: own ones, then borrowed ones. All undefined: not perturbed. fp32.
  struct Parameter {
    at::Tensor values;  // what is not a matrix: [branches, n], the perturbed values themselves
    // Matrices [rows, columns]: [branches, rows, rank] and [branches, rank, columns]; the branch sees W + left_b right_b. Both lie in
    // memory as [branches, rank, n] (left is a transposed view), or are copied so.
    at::Tensor left, right;
  };
  int64_t branches = 1;
  bool own_batches = false;  // the context's batch has branches * B samples, branch-major, instead of B that all branches share
  std::vector<Parameter> parameters;
};

}  // namespace zerostep
