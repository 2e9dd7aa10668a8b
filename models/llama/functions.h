#pragma once
#include <ATen/core/Tensor.h>

#include "models/rotary.h"

// The pieces of Llama as differentiable functions: one autograd node each, little saved between forward and backward (what RMSNorm and
// SwiGLU give is worked out again), parameter gradients written as ParameterGradient describes. Matrices are [out, in], activations have
// their type; norm gains and biases may be fp32 beside 16-bit matrices, biases may be undefined.
namespace zerostep::llama {

// tokens [B, T] int64 -> weight[tokens] [B, T, width]. tied: the head has written into the weight's pre-assigned gradient before, so it is
// added to even when gradients are fresh.
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight, bool tied);

struct Affine {
  at::Tensor weight, bias;
};
struct AttentionWeights {
  at::Tensor gain;  // of the norm before
  Affine q, k, v, output;
};
struct AttentionShape {
  int64_t heads, key_value_heads, head_width;
  double epsilon;
};
// x + attention(RMSNorm(x)), queries and keys turned by `rotation` (one row for each of x's rows, or for the T of every sample). Causal, or
// with `allowed` [B, 1, T, T] bool.
at::Tensor attention(const at::Tensor& x, const AttentionWeights& weights, const AttentionShape& shape, const Rotation& rotation,
                     const at::Tensor& allowed);

// x + SwiGLU(RMSNorm(x)).
struct MlpWeights {
  at::Tensor gain, gate, up, down;
};
at::Tensor mlp(const at::Tensor& x, const MlpWeights& weights, double epsilon);

// RMSNorm(x) W', W [vocabulary, width].
at::Tensor logits(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& weight, double epsilon);
// RMSNorm(x), the first factor of the logits.
at::Tensor final_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon);

}  // namespace zerostep::llama
