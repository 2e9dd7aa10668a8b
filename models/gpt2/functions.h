#pragma once
#include <ATen/core/Tensor.h>

#include <array>

#include "models/dropout.h"
#include "models/layer_norm.h"

// The pieces of GPT-2 as differentiable functions: few autograd nodes a block, little saved between forward and backward (LayerNorm
// outputs, GELU outputs and dropout masks are worked out again), parameter gradients written as ParameterGradient describes. Activations
// have the matrices' type; norm gains, offsets and biases may be fp32 beside 16-bit matrices.
namespace zerostep::gpt2 {

// tokens, positions [B, T] int64 (positions undefined: 0..T-1) -> dropout(wte[tokens] + wpe[positions]) [B, T, width].
// tied: the head has written into wte's pre-assigned gradient before, so it is added to even when gradients are fresh.
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& positions, const at::Tensor& wte, const at::Tensor& wpe, bool tied,
                 const Dropout& dropout);

// Queries, keys and values [B, heads, T, width / heads] of LayerNorm(x) W + b, W [width, 3 width].
std::array<at::Tensor, 3> attention_input(const at::Tensor& x, const Norm& norm, const at::Tensor& weight, const at::Tensor& bias,
                                          int64_t heads);

// softmax(q k' / sqrt(d)) v, causal, with `allowed` [B, 1, T, T] bool (undefined: all) and dropout on the probabilities. Gives [B, heads,
// T, d] over memory [B, T, heads, d].
at::Tensor attention(const std::array<at::Tensor, 3>& qkv, const at::Tensor& allowed, const Dropout& dropout);

// residual + dropout(attended W + b), `attended` as attention() gives it.
at::Tensor attention_output(const at::Tensor& residual, const at::Tensor& attended, const at::Tensor& weight, const at::Tensor& bias,
                            const Dropout& dropout);

// x + dropout(GELU(LayerNorm(x) W1 + b1) W2 + b2) with the tanh GELU.
struct MlpWeights {
  at::Tensor up, up_bias, down, down_bias;
};
at::Tensor mlp(const at::Tensor& x, const Norm& norm, const MlpWeights& weights, const Dropout& dropout);

// LayerNorm(x) W', W [vocabulary, width].
at::Tensor logits(const at::Tensor& x, const Norm& norm, const at::Tensor& weight);
// LayerNorm(x), the first factor of the logits.
at::Tensor final_norm(const at::Tensor& x, const Norm& norm);

}  // namespace zerostep::gpt2
