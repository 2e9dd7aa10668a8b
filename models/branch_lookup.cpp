#include "models/branch_lookup.h"

#include <ATen/ops/zeros.h>

#include "models/gpt2/branches.h"

namespace zerostep {

at::Tensor branch_lookup(const at::Tensor& indices, const at::Tensor& table, const BranchPerturbation::Parameter& parameter,
                         const BranchPerturbation& perturbation) {
  // GPT-2's embedding without positions: zeros that are not perturbed.
  Batch batch;
  batch.tokens = indices;
  const BranchPerturbation own{perturbation.branches, perturbation.own_batches, {parameter, {}}};
  return gpt2::branch_embed(batch, table, at::zeros({indices.size(1), table.size(1)}, table.options().requires_grad(false)), own);
}

}  // namespace zerostep
