#pragma once
#include "models/batch.h"
#include "models/branches.h"

// What the units of models are made of, for several branches at once, without a graph or dropout: rows are [branches * n, width],
// branch-major.
namespace zerostep {

// A matrix [in, out] as the branches see it: weight + left_b right_b, or made in tiles.
struct BranchMatrix {
  at::Tensor weight;
  at::Tensor inward, outward;  // left transposed and right: [branches, rank, in] and [branches, rank, out]; undefined: no such part
  const PerturbedMatrix* tiled = nullptr;
  bool transposed = false;  // `tiled` is the transposed matrix
};
BranchMatrix branch_matrix(const at::Tensor& weight, const BranchPerturbation::Parameter& parameter);
// The same for the transposed matrix: weight' + right_b' left_b'.
BranchMatrix transposed_branch_matrix(const at::Tensor& weight, const BranchPerturbation::Parameter& parameter);
// A vector as the branches see it: fp32 [branches, n], or [1, n] where all see the plain one.
at::Tensor branch_vector(const at::Tensor& plain, const BranchPerturbation::Parameter& parameter);

// base + offset + x W. `base` rows [branches * n, out] and `offset` [branches or 1, out] may be undefined.
at::Tensor branch_affine(const at::Tensor& rows, const BranchMatrix& matrix, const at::Tensor& offset, const at::Tensor& base,
                         int64_t branches);

// Tokens and positions of a batch in their tables, added up, as each branch sees them: [branches * B, T, width]. No row is perturbed that
// is not read.
at::Tensor branch_embed(const Batch& batch, const at::Tensor& wte, const at::Tensor& wpe, const BranchPerturbation& perturbation);

// Rows of a table [n, width] that `indices` [samples, T] name, as each branch sees them: [branches * B, T, width], branch-major. The
// indices are those of all branches (perturbation.own_batches) or shared. No row is perturbed that is not read.
at::Tensor branch_lookup(const at::Tensor& indices, const at::Tensor& table, const BranchPerturbation::Parameter& parameter,
                         const BranchPerturbation& perturbation);

// Throws ProtocolError unless there is an entry for each of `parameters` parameters and, where inputs [samples, ...] come in, whole
// batches for all branches.
void check_branches(const char* unit, const BranchPerturbation& perturbation, size_t parameters, const at::Tensor& input);

// allowed_pairs() of the batch for all branches.
at::Tensor branch_allowed_pairs(const Batch& batch, const BranchPerturbation& perturbation);

}  // namespace zerostep
