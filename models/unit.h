#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "models/batch.h"
#include "models/parameter.h"

namespace zerostep {

struct BranchPerturbation;

struct UnitInfo {
  std::string name;  // "embedding", "h.0", ..., "head"
  std::vector<ParameterInfo> parameters;
  std::vector<BorrowedParameter> borrowed;
  // True when the backward does not read the unit's own parameters (an embedding): it needs their gradients only.
  bool backward_needs_parameters = true;
  int64_t num_elements() const {
    int64_t n = 0;
    for (const auto& p : parameters) n += p.num_elements();
    return n;
  }
};

// The running form of a unit: plain single-device code over parameters that somebody else owns.
// Linear-layer matrices may be 16-bit while vectors (norm gains, biases) are fp32: forward casts where it must.
class Unit {
 public:
  virtual ~Unit() = default;
  // First unit: inputs = {} (it reads context.batch). Others: {hidden [B, T, width]}. Last unit: {logits [B, T, vocabulary]}, or their
  // factors where the context takes them, or of a classifier {logits [B, classes]}.
  virtual TensorList forward(const TensorList& inputs, const ForwardContext& context) = 0;
  // The same for the branches of a perturbation (models/branches.h) as one batch, without a graph or dropout. First unit: inputs = {}.
  // Others: {hidden [branches * B, T, width]}, branch-major. Last unit: {logits [branches * B, T, vocabulary]}, or {[branches * B,
  // classes]}.
  virtual TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& perturbation) = 0;
};

}  // namespace zerostep
