#pragma once
#include <ATen/core/Tensor.h>

namespace zerostep {

// silu(gate) up with silu(x) = x / (1 + exp(-x)) (arXiv 2002.05202). Tensors are contiguous, of one shape, fp32, bf16 or fp16 (rounded
// once). Nothing records a graph.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
// Into `gate`.
void swiglu_(const at::Tensor& gate, const at::Tensor& up);
// In one pass: gate becomes silu(gate) up, gradient becomes that of gate, up becomes its own gradient. Bumps their versions, so that a
// graph that is kept cannot be run over them again.
void swiglu_backward_(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gradient);

}  // namespace zerostep
