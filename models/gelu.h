#pragma once
#include <ATen/core/Tensor.h>

namespace zerostep {

// GPT-2's GELU, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), worked out as x / (1 + exp(-2 ...)): in fp32 within a few units in the
// last place (on a device without kernels, where it is LibTorch's, within 1e-6), for 16-bit types rounded once. Tensors are contiguous,
// fp32, bf16 or fp16.
at::Tensor tanh_gelu(const at::Tensor& x);
void tanh_gelu_(const at::Tensor& x);
// In one pass: x becomes GELU(x), gradient becomes gradient * GELU'(x). Bumps x's version, so that a graph that is kept cannot be run over
// it again.
void tanh_gelu_backward_(const at::Tensor& x, const at::Tensor& gradient);

}  // namespace zerostep
