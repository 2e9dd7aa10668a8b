#pragma once
#include <ATen/core/Tensor.h>

namespace zerostep {

// Work on rows [branches * n, width], branch-major, where each branch has vectors or low-rank factors of its own, as BranchPerturbation
// says. Rows are fp32, bf16 or fp16, vectors and factors fp32, everything contiguous; arithmetic is fp32, rounded once. Nothing
// records a graph. LibTorch's threads are used.

// LayerNorm of each row with its branch's gain and offset [branches or 1, width]; 1: all branches share them.
at::Tensor branch_norm(const at::Tensor& rows, const at::Tensor& gain, const at::Tensor& offset, double epsilon);

// Each row times its branch's factor [branches, rank, width] transposed: fp32 [branches * n, rank].
at::Tensor branch_project(const at::Tensor& rows, const at::Tensor& factor);

// Rows [branches * n, width] of base + offset_b + coefficients factor_b.
struct BranchSum {
  at::Tensor base;                  // [branches * n, width], or [n, width] that all branches share; undefined: zero
  at::Tensor offset;                // [branches or 1, width]; undefined: zero
  at::Tensor coefficients, factor;  // [branches * n, rank] and [branches, rank, width]; undefined: zero
};
// On the device of these, of which one at least is defined.
at::Tensor branch_sum(const BranchSum& sum, int64_t rows, int64_t width, int64_t branches, at::ScalarType type);

}  // namespace zerostep
