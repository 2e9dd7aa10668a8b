#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

namespace zerostep {

// LibTorch's attention with a graph, in the form that it chooses for the device: softmax(q k' / sqrt(d)) v. On a GPU the backward of a
// fused form adds up the gradients of queries in whatever order its blocks end, unless LibTorch's algorithms are to be deterministic while
// it runs: they are, for that node of the graph alone, where attention_repeats().
at::Tensor scaled_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& mask,
                            bool causal);

// Whether attention on a GPU gives the same bits each time; so it does at first. Of the process: set while no unit runs. cuDNN's attention,
// which LibTorch asks before a forward, is left out then.
void let_attention_repeat(bool repeats);
bool attention_repeats(at::Device device);

// Makes the backward of the fused attention that `attended` comes from deterministic, on any device; nothing where it comes from none.
void make_backward_deterministic(const at::Tensor& attended);
// After a backward that has failed: LibTorch's algorithms are as they were before it.
void end_deterministic_algorithms();

}  // namespace zerostep
