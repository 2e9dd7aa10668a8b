#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace zerostep {

// An fp32 matrix of which every branch sees a form of its own, made where and when a product needs a part of it.
class PerturbedMatrix {
 public:
  // Part [row, row + rows) x [column, column + columns).
  struct Part {
    int64_t row, rows, column, columns;
  };
  virtual ~PerturbedMatrix() = default;
  // Writes the part as branch b sees it to out[b], rows close together: memory of the device that the unit computes on. On the CPU it is
  // called from any thread and has written when it returns; on another device it queues its work on LibTorch's current stream.
  virtual void write(const Part& part, float* const* out) const = 0;
};

inline constexpr int64_t kMostTiledBranches = 2;

// How each of several branches of a forward sees a unit's parameters. Low-rank directions (LOZO, arXiv 2410.07698) need no perturbed
// matrix: x (W + left right) = x W + (x left) right, and x W is one product for all. Where every branch has a matrix of its own, it is
// written in tiles that stay in a core's caches until their products are made.
struct BranchPerturbation {
  // One per parameter of the unit: own ones, then borrowed ones. All undefined: not perturbed. fp32.
  struct Parameter {
    at::Tensor values;  // what is not a matrix: [branches, n], the perturbed values themselves
    // Matrices [rows, columns]: [branches, rows, rank] and [branches, rank, columns]; the branch sees W + left_b right_b. Both lie in
    // memory as [branches, rank, n] (left is a transposed view), or are copied so.
    at::Tensor left, right;
    // Or matrices that nobody holds: for at most kMostTiledBranches branches, of fp32 units.
    std::shared_ptr<const PerturbedMatrix> tiled;
  };
  int64_t branches = 1;
  bool own_batches = false;  // the context's batch has branches * B samples, branch-major, instead of B that all branches share
  std::vector<Parameter> parameters;
};

}  // namespace zerostep
