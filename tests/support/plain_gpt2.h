#pragma once
#include <ATen/ops/arange.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include "models/gpt2/gpt2.h"

// GPT-2 as a user would write it over torch's modules: what benchmarks compare with. No dropout.
namespace zerostep::testing {

struct PlainBlock : torch::nn::Module {
  PlainBlock(int64_t width, int64_t heads_) : heads(heads_) {
    using namespace torch::nn;
    ln_1 = register_module("ln_1", LayerNorm(LayerNormOptions({width})));
    ln_2 = register_module("ln_2", LayerNorm(LayerNormOptions({width})));
    qkv = register_module("qkv", Linear(width, 3 * width));
    proj = register_module("proj", Linear(width, width));
    up = register_module("up", Linear(width, 4 * width));
    down = register_module("down", Linear(4 * width, width));
  }
  at::Tensor forward(at::Tensor x) {
    const int64_t b = x.size(0), t = x.size(1), c = x.size(2);
    auto parts = qkv(ln_1(x)).split(c, 2);
    for (auto& p : parts) p = p.view({b, t, heads, c / heads}).transpose(1, 2);
    const at::Tensor y = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], {}, 0.0, true).transpose(1, 2).reshape({b, t, c});
    x = x + proj(y);
    return x + down(at::gelu(up(ln_2(x)), "tanh"));
  }
  int64_t heads;
  torch::nn::LayerNorm ln_1{nullptr}, ln_2{nullptr};
  torch::nn::Linear qkv{nullptr}, proj{nullptr}, up{nullptr}, down{nullptr};
};

struct PlainGpt2 : torch::nn::Module {
  explicit PlainGpt2(const Gpt2Options& o) {
    using namespace torch::nn;
    wte = register_module("wte", Embedding(o.vocab_size, o.n_embd));
    wpe = register_module("wpe", Embedding(o.n_positions, o.n_embd));
    for (int64_t i = 0; i < o.n_layer; ++i)
      blocks.push_back(register_module("h" + std::to_string(i), std::make_shared<PlainBlock>(o.n_embd, o.n_head)));
    ln_f = register_module("ln_f", LayerNorm(LayerNormOptions({o.n_embd})));
    head = register_module("head", Linear(LinearOptions(o.n_embd, o.vocab_size).bias(false)));
  }
  at::Tensor logits(const at::Tensor& tokens) {
    at::Tensor x = wte(tokens) + wpe(at::arange(tokens.size(1), tokens.options()));
    for (auto& block : blocks) x = block->forward(x);
    return head(ln_f(x));
  }
  torch::nn::Embedding wte{nullptr}, wpe{nullptr};
  std::vector<std::shared_ptr<PlainBlock>> blocks;
  torch::nn::LayerNorm ln_f{nullptr};
  torch::nn::Linear head{nullptr};
};

// 8 layers, 512 wide, 25.6 M parameters.
inline Gpt2Options benchmark_gpt2() {
  return {.n_layer = 8,
          .n_embd = 512,
          .n_head = 8,
          .n_positions = 256,
          .vocab_size = 257,
          .resid_pdrop = 0,
          .embd_pdrop = 0,
          .attn_pdrop = 0,
          .tie_word_embeddings = false};
}

}  // namespace zerostep::testing
