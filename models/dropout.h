#pragma once
#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "models/batch.h"

namespace zerostep {

// One use of dropout in a forward. Element i of a sample is kept by Philox bits keyed by (seed, step, unit, site) at index
// global sample id * elements per sample + i, so masks do not depend on how the batch is split, and the backward or a recomputed
// forward makes them again instead of keeping them. Kept values are scaled by 1 / (1 - p).
class Dropout {
 public:
  Dropout() = default;  // inactive
  // Inactive when p is 0 or the context is not training. ProtocolError when the batch carries no sample ids.
  Dropout(double p, const ForwardContext& context, int unit, int site);
  bool active() const { return p_ > 0; }
  // values [B, ...], contiguous: multiplied in place by their mask.
  void apply_(const at::Tensor& values) const;
  // One sample's values [...], contiguous, of the batch's sample `sample`.
  void apply_to_sample_(const at::Tensor& values, int64_t sample) const;

 private:
  void apply_to_samples_(const at::Tensor& values, std::span<const int64_t> ids) const;

  double p_ = 0;
  uint64_t seed_ = 0, step_ = 0;
  uint32_t stream_ = 0;
  std::vector<int64_t> sample_ids_;
};

}  // namespace zerostep
