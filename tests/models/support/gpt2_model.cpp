#include "tests/models/support/gpt2_model.h"

#include <ATen/ATen.h>

#include <cmath>

namespace zerostep {

Gpt2Model make_model(const Gpt2Options& options, const std::function<void(const ParameterInfo&, at::Tensor&)>& fill,
                     at::ScalarType compute_type) {
  return make_model(make_gpt2(options), fill, compute_type);
}

Gpt2Model make_random_model(const Gpt2Options& options, uint64_t seed, at::ScalarType compute_type) {
  return make_random_model(make_gpt2(options), seed, compute_type);
}

at::Tensor plain_logits(Gpt2Model& m, const Gpt2Options& o, const Batch& batch) {
  const int64_t b = batch.tokens.size(0), t = batch.tokens.size(1), c = o.n_embd;
  const auto p = [&](const std::string& name) -> at::Tensor& { return m.parameter("transformer." + name); };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return at::layer_norm(x, {c}, p(name + ".weight"), p(name + ".bias"), o.layer_norm_epsilon);
  };
  const auto affine = [&](const at::Tensor& x, const std::string& name) { return x.matmul(p(name + ".weight")) + p(name + ".bias"); };
  const auto positions = batch.positions.defined() ? batch.positions : at::arange(t).unsqueeze(0);
  at::Tensor x = at::embedding(p("wte.weight"), batch.tokens) + at::embedding(p("wpe.weight"), positions);
  const at::Tensor future = at::ones({t, t}, at::kBool).triu(1);
  for (int64_t i = 0; i < o.n_layer; ++i) {
    const std::string h = "h." + std::to_string(i);
    auto qkv = affine(norm(x, h + ".ln_1"), h + ".attn.c_attn").split(c, 2);
    for (auto& y : qkv) y = y.view({b, t, o.n_head, c / o.n_head}).transpose(1, 2);
    at::Tensor scores = qkv[0].matmul(qkv[1].transpose(2, 3)) / std::sqrt(static_cast<double>(c / o.n_head));
    scores = scores.masked_fill(future, -INFINITY).softmax(-1);
    x = x + affine(scores.matmul(qkv[2]).transpose(1, 2).reshape({b, t, c}), h + ".attn.c_proj");
    x = x + affine(at::gelu(affine(norm(x, h + ".ln_2"), h + ".mlp.c_fc"), "tanh"), h + ".mlp.c_proj");
  }
  const at::Tensor& head = o.tie_word_embeddings ? p("wte.weight") : m.parameter("lm_head.weight");
  return norm(x, "ln_f").matmul(head.t());
}

}  // namespace zerostep
