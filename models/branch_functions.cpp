#include "models/branch_functions.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/nth.h"
#include "models/attention.h"
#include "models/branch_kernels.h"
#include "models/kernel_rows.h"
#include "models/product.h"

namespace zerostep {

namespace {

// Factors of the rows that `indices` [branches or 1, n] name: coefficients [branches * n, rank] and their factor [branches, rank, width].
void add_rows(const BranchPerturbation::Parameter& parameter, const at::Tensor& indices, TensorList& coefficients, TensorList& factors) {
  if (!parameter.left.defined()) return;
  const int64_t branches = parameter.left.size(0), rank = parameter.left.size(2), n = indices.size(1);
  const at::Tensor read = parameter.left.transpose(1, 2).gather(2, indices.unsqueeze(1).expand({branches, rank, n}));
  coefficients.push_back(read.transpose(1, 2).reshape({branches * n, rank}));
  factors.push_back(parameter.right);
}

// Rows of a table whose numbers the host cannot see: all of it is written in parts, and each row is taken from the part that has it.
at::Tensor tiled_rows_from_parts(const at::Tensor& table, const PerturbedMatrix& matrix, const at::Tensor& rows, int64_t branches) {
  const int64_t n = rows.size(0), width = table.size(1), most = std::clamp<int64_t>(kPartElements / (branches * width), 1, table.size(0));
  const auto options = table.options().requires_grad(false);
  at::Tensor out = at::zeros({branches, n, width}, options), scratch = at::empty({branches, most, width}, options);
  std::array<float*, kMostTiledBranches> targets{};
  for (int64_t b = 0; b < branches; ++b) nth(targets, b) = scratch[b].data_ptr<float>();
  for (int64_t first = 0; first < table.size(0); first += most) {
    const int64_t count = std::min(most, table.size(0) - first);
    matrix.write({first, count, 0, width}, targets.data());
    const at::Tensor places = rows - first, is_here = places.ge(0).logical_and_(places.lt(count));
    out.add_(at::index_select(scratch, 1, places.clamp_(0, count - 1)).masked_fill_(is_here.logical_not().view({1, n, 1}), 0));
  }
  return out;
}

// Rows `indices` [n] of a table as the branches see it: [branches, n, width]; [1, n, width] where all see the plain one.
at::Tensor tiled_rows(const at::Tensor& table, const BranchPerturbation::Parameter& parameter, const at::Tensor& indices,
                      int64_t branches) {
  const int64_t n = indices.size(0), width = table.size(1);
  if (!parameter.tiled) return at::embedding(table, indices).unsqueeze(0);
  if (!has_kernels(table)) return tiled_rows_from_parts(table, *parameter.tiled, indices, branches);
  const at::Tensor out = at::empty({branches, n, width}, table.options().requires_grad(false)), rows = indices.contiguous();
  const int64_t* row = rows.data_ptr<int64_t>();
  for (int64_t i = 0; i < n; ++i)
    if (row[i] < 0 || row[i] >= table.size(0)) fail_protocol("[embedding] index {} of a table of {} rows", row[i], table.size(0));
  float* begin = out.data_ptr<float>();
  at::parallel_for(0, n, 16, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      std::array<float*, kMostTiledBranches> targets{};
      for (int64_t b = 0; b < branches; ++b) nth(targets, b) = begin + (b * n + i) * width;
      parameter.tiled->write({row[i], 1, 0, width}, targets.data());
    }
  });
  return out;
}

at::Tensor tiled_embed(const Batch& batch, const at::Tensor& positions, const at::Tensor& wte, const at::Tensor& wpe,
                       const BranchPerturbation& p) {
  const int64_t samples = batch.tokens.size(0), length = batch.tokens.size(1), width = wte.size(1);
  const at::Tensor token_rows = tiled_rows(wte, p.parameters[0], batch.tokens.flatten(), p.branches);
  at::Tensor y = token_rows.view({-1, samples, length, width});
  if (y.size(0) < p.branches) y = y.expand({p.branches, samples, length, width}).contiguous();
  // Samples share their positions unless the batch says which they are.
  const bool own = batch.positions.defined();
  y.add_(
      tiled_rows(wpe, p.parameters[1], own ? positions.flatten() : positions[0], p.branches).view({-1, own ? samples : 1, length, width}));
  return y.view({p.branches * samples, length, width});
}

at::Tensor joined(const TensorList& tensors, int64_t dimension) {
  if (tensors.empty()) return {};
  return tensors.size() == 1 ? tensors[0].contiguous() : at::cat(tensors, dimension);
}

}  // namespace

BranchMatrix branch_matrix(const at::Tensor& weight, const BranchPerturbation::Parameter& parameter) {
  if (parameter.tiled) return {weight, {}, {}, parameter.tiled.get(), false};
  if (!parameter.left.defined()) return {weight, {}, {}};
  return {weight, parameter.left.transpose(1, 2).contiguous(), parameter.right.contiguous()};
}

BranchMatrix transposed_branch_matrix(const at::Tensor& weight, const BranchPerturbation::Parameter& parameter) {
  if (parameter.tiled) return {weight.t(), {}, {}, parameter.tiled.get(), true};
  if (!parameter.left.defined()) return {weight.t(), {}, {}};
  return {weight.t(), parameter.right.contiguous(), parameter.left.transpose(1, 2).contiguous()};
}

at::Tensor branch_vector(const at::Tensor& plain, const BranchPerturbation::Parameter& parameter) {
  return parameter.values.defined() ? parameter.values.contiguous() : plain.to(at::kFloat).unsqueeze(0);
}

at::Tensor branch_affine(const at::Tensor& rows, const BranchMatrix& matrix, const at::Tensor& offset, const at::Tensor& base,
                         int64_t branches) {
  if (matrix.tiled != nullptr) {
    const TiledProduct tiled{*matrix.tiled, matrix.weight.size(0), matrix.weight.size(1), branches, matrix.transposed};
    const bool add = offset.defined() || base.defined();
    const at::Tensor y = add ? branch_sum({base, offset, {}, {}}, rows.size(0), tiled.out, branches, rows.scalar_type())
                             : at::empty({rows.size(0), tiled.out}, rows.options());
    multiply_tiles(tiled, rows, y, add);
    return y;
  }
  const bool perturbed = matrix.inward.defined();
  if (!perturbed && !offset.defined() && !base.defined()) return product(rows, matrix.weight);
  // What rows are times the factors is gone before the product, for which libraries may take memory.
  const at::Tensor y = branch_sum({base, offset, perturbed ? branch_project(rows, matrix.inward) : at::Tensor(), matrix.outward},
                                  rows.size(0), matrix.weight.size(1), branches, rows.scalar_type());
  add_product_(y, rows, matrix.weight);
  return y;
}

at::Tensor branch_embed(const Batch& batch, const at::Tensor& wte, const at::Tensor& wpe, const BranchPerturbation& perturbation) {
  const int64_t branches = perturbation.branches, samples = batch.tokens.size(0), length = batch.tokens.size(1), width = wte.size(1);
  const int64_t from = perturbation.own_batches ? branches : 1;
  const at::Tensor positions =
      batch.positions.defined() ? batch.positions : at::arange(length, batch.tokens.options()).expand({samples, length});
  if (perturbation.parameters[0].tiled || perturbation.parameters[1].tiled) return tiled_embed(batch, positions, wte, wpe, perturbation);
  at::Tensor base = at::embedding(wte, batch.tokens).view({samples * length, width});
  base.view({samples, length, width}).add_(batch.positions.defined() ? at::embedding(wpe, positions) : wpe.narrow(0, 0, length));
  TensorList coefficients, factors;
  add_rows(perturbation.parameters[0], batch.tokens.reshape({from, -1}), coefficients, factors);
  add_rows(perturbation.parameters[1], positions.reshape({from, -1}), coefficients, factors);
  const BranchSum sum{base, {}, joined(coefficients, 1), joined(factors, 1)};
  const int64_t all = samples / from * branches;
  return branch_sum(sum, all * length, width, branches, wte.scalar_type()).view({all, length, width});
}

at::Tensor branch_lookup(const at::Tensor& indices, const at::Tensor& table, const BranchPerturbation::Parameter& parameter,
                         const BranchPerturbation& perturbation) {
  // Without positions: zeros that are not perturbed.
  Batch batch;
  batch.tokens = indices;
  const BranchPerturbation own{perturbation.branches, perturbation.own_batches, {parameter, {}}};
  return branch_embed(batch, table, at::zeros({indices.size(1), table.size(1)}, table.options().requires_grad(false)), own);
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

}  // namespace zerostep
