#pragma once
#include <ATen/core/Tensor.h>

#include <array>

#include "models/affine.h"
#include "models/layer_norm.h"

// The pieces of BERT as differentiable functions: few autograd nodes a layer, little saved between forward and backward, parameter
// gradients written as ParameterGradient describes. Matrices are [out, in], activations have their type; norms and biases may be fp32
// beside 16-bit matrices.
namespace zerostep::bert {

struct Affine {
  at::Tensor weight, bias;
};

// tokens, positions, types [B, T] int64 (positions undefined: 0..T-1, types undefined: 0) ->
// dropout(LayerNorm(word[token] + position[position] + type[type])) [B, T, width]; without a table of types (undefined) the same without.
struct EmbeddingWeights {
  at::Tensor word, position, type;
  Norm norm;
  bool tied = false;  // the head uses `word` too: its gradient is there already and is added to
};
struct EmbeddingIndices {
  at::Tensor tokens, positions, types;
};
at::Tensor embed(const EmbeddingIndices& indices, const EmbeddingWeights& weights, const Dropout& dropout);

// Queries, keys and values [B, heads, T, width / heads].
std::array<at::Tensor, 3> attention_input(const at::Tensor& x, const Affine& q, const Affine& k, const Affine& v, int64_t heads);

// softmax(q k' / sqrt(d)) v with `allowed` [B, 1, 1, T] bool (undefined: all) and dropout on the probabilities. [B, heads, T, d] over
// memory [B, T, heads, d].
at::Tensor attention(const std::array<at::Tensor, 3>& qkv, const at::Tensor& allowed, const Dropout& dropout);

// LayerNorm(residual + dropout(attended W' + b)), `attended` as attention() gives it.
at::Tensor attention_output(const at::Tensor& residual, const at::Tensor& attended, const Affine& output, const Norm& norm,
                            const Dropout& dropout);

// LayerNorm(x + dropout(GELU(x W1' + b1) W2' + b2)) with the exact GELU.
at::Tensor mlp(const at::Tensor& x, const Affine& up, const Affine& down, const Norm& norm, const Dropout& dropout);

// One row [B, width] of each sample: the first token's, or the mean of those that the mask [B, T] lets through (undefined: all).
at::Tensor pool(const at::Tensor& x, const at::Tensor& mask, bool mean);

// dropout(f(dropped(pool(x)) P' + p)) C' + c [B, classes], f being tanh or ReLU; without a pooler (undefined) dropout(pool(x)) C' + c.
struct ClassifierWeights {
  Affine pooler, classifier;
  bool mean = false, relu = false;
};
struct ClassifierDropouts {
  Dropout pooled, hidden;  // of the pooler's input, and of the classifier's
};
at::Tensor classify(const at::Tensor& x, const at::Tensor& mask, const ClassifierWeights& weights, const ClassifierDropouts& dropouts);

// LayerNorm(GELU(x D' + d)) W' + w [B, T, vocabulary] with the exact GELU; W is the table of words.
struct WordPredictionWeights {
  Affine dense;
  Norm norm;
  Affine words;
};
at::Tensor predict_words(const at::Tensor& x, const WordPredictionWeights& weights);

// rows W' + b, without a graph.
inline at::Tensor affine(const at::Tensor& rows, const Affine& a) { return zerostep::affine(rows, a.weight.t(), a.bias); }

}  // namespace zerostep::bert
