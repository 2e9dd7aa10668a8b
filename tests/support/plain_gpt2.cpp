#include "tests/support/plain_gpt2.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

namespace zerostep::testing {

namespace {

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

}  // namespace

struct PlainGpt2::Modules : torch::nn::Module {
  explicit Modules(const Gpt2Options& o) {
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

PlainGpt2::PlainGpt2(const Gpt2Options& options, at::ScalarType type) : modules_(std::make_shared<Modules>(options)) { modules_->to(type); }
at::Tensor PlainGpt2::logits(const at::Tensor& tokens) { return modules_->logits(tokens); }
std::vector<at::Tensor> PlainGpt2::parameters() const { return modules_->parameters(); }

}  // namespace zerostep::testing
