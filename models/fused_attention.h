#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace zerostep {

// LibTorch's attention with a graph, in the form that it chooses for the device. Where that is a fused one on a GPU, its backward adds up
// the gradients of queries in whatever order its blocks end, unless LibTorch's algorithms are to be deterministic while it runs: they are,
// for that node of the graph alone, unless `FusedAttention::is_deterministic` is false.
struct FusedAttention {
  static at::Tensor of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& mask, bool causal);
  // Of the process. Changed while no unit runs.
  static inline bool is_deterministic = true;
};

// Makes the fused attention that `attended` comes from deterministic, on any device; nothing where it comes from none.
void make_backward_deterministic(const at::Tensor& attended);

}  // namespace zerostep
