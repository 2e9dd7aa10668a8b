#include "models/gpt2/branches.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include "base/error.h"
#include "models/branch_kernels.h"
#include "models/gpt2/units.h"
#include "models/product.h"

namespace zerostep::gpt2 {

namespace {

// Factors of the rows that `indices` [branches or 1, n] name: coefficients [branches * n, rank] and their factor [branches, rank, width].
void add_rows(const BranchPerturbation::Parameter& parameter, const at::Tensor& indices, TensorList& coefficients, TensorList& factors) {
  if (!parameter.left.defined()) return;
  const int64_t branches = parameter.left.size(0), rank = parameter.left.size(2), n = indices.size(1);
  const at::Tensor read = parameter.left.transpose(1, 2).gather(2, indices.unsqueeze(1).expand({branches, rank, n}));
  coefficients.push_back(read.transpose(1, 2).reshape({branches * n, rank}));
  factors.push_back(parameter.right);
}

at::Tensor joined(const TensorList& tensors, int64_t dimension) {
  if (tensors.empty()) return {};
  return tensors.size() == 1 ? tensors[0].contiguous() : at::cat(tensors, dimension);
}

}  // namespace

BranchMatrix branch_matrix(const at::Tensor& weight, const BranchPerturbation::Parameter& parameter) {
  if (!parameter.left.defined()) return {weight, {}, {}};
  return {weight, parameter.left.transpose(1, 2).contiguous(), parameter.right.contiguous()};
}

BranchMatrix transposed_branch_matrix(const at::Tensor& weight, const BranchPerturbation::Parameter& parameter) {
  if (!parameter.left.defined()) return {weight.t(), {}, {}};
  return {weight.t(), parameter.right.contiguous(), parameter.left.transpose(1, 2).contiguous()};
}

at::Tensor branch_vector(const at::Tensor& plain, const BranchPerturbation::Parameter& parameter) {
  return parameter.values.defined() ? parameter.values.contiguous() : plain.to(at::kFloat).unsqueeze(0);
}

at::Tensor branch_affine(const at::Tensor& rows, const BranchMatrix& matrix, const at::Tensor& offset, const at::Tensor& base,
                         int64_t branches) {
  const bool perturbed = matrix.inward.defined();
  if (!perturbed && !offset.defined() && !base.defined()) return product(rows, matrix.weight);
  const BranchSum start{base, offset, perturbed ? branch_project(rows, matrix.inward) : at::Tensor(), matrix.outward};
  at::Tensor y = branch_sum(start, rows.size(0), matrix.weight.size(1), branches, rows.scalar_type());
  add_product_(y, rows, matrix.weight);
  return y;
}

at::Tensor branch_embed(const Batch& batch, const at::Tensor& wte, const at::Tensor& wpe, const BranchPerturbation& perturbation) {
  const int64_t branches = perturbation.branches, samples = batch.tokens.size(0), length = batch.tokens.size(1), width = wte.size(1);
  const int64_t from = perturbation.own_batches ? branches : 1;
  const at::Tensor base = embed(batch.tokens, batch.positions, wte, wpe, false, Dropout()).view({samples * length, width});
  const at::Tensor positions =
      batch.positions.defined() ? batch.positions : at::arange(length, batch.tokens.options()).expand({samples, length});
  TensorList coefficients, factors;
  add_rows(perturbation.parameters[0], batch.tokens.reshape({from, -1}), coefficients, factors);
  add_rows(perturbation.parameters[1], positions.reshape({from, -1}), coefficients, factors);
  const BranchSum sum{base, {}, joined(coefficients, 1), joined(factors, 1)};
  const int64_t all = samples / from * branches;
  return branch_sum(sum, all * length, width, branches, wte.scalar_type()).view({all, length, width});
}

void check_branches(const char* unit, const BranchPerturbation& perturbation, size_t parameters, const at::Tensor& input) {
  if (perturbation.parameters.size() != parameters) {
    fail_protocol("[{}] expected perturbations of {} parameters, found {}", unit, parameters, perturbation.parameters.size());
  }
  if (input.defined() && input.size(0) % perturbation.branches != 0) {
    fail_protocol("[{}] {} samples do not divide by {} branches", unit, input.size(0), perturbation.branches);
  }
}

at::Tensor branch_allowed_pairs(const Batch& batch, const BranchPerturbation& perturbation) {
  const at::Tensor allowed = allowed_pairs(batch);
  if (!allowed.defined() || perturbation.own_batches) return allowed;
  return allowed.repeat({perturbation.branches, 1, 1, 1});
}

}  // namespace zerostep::gpt2
