#include "tests/models/support/gpt2_model.h"

#include <torch/torch.h>

#include <cmath>

namespace zerostep {

at::Tensor& Gpt2Model::parameter(const std::string& name) {
  for (size_t u = 0; u < parameters.size(); ++u) {
    for (size_t p = 0; p < parameters[u].size(); ++p) {
      if (definition->units()[u].parameters[p].name == name) return parameters[u][p];
    }
  }
  throw std::out_of_range(name);
}

TensorList Gpt2Model::forward(const ForwardContext& context) {
  TensorList h;
  for (auto& unit : units) h = unit->forward(h, context);
  return h;
}

std::vector<at::Tensor> Gpt2Model::all_parameters() const {
  std::vector<at::Tensor> all;
  for (const auto& unit : parameters) all.insert(all.end(), unit.begin(), unit.end());
  return all;
}

Gpt2Model make_model(const Gpt2Options& options, const std::function<void(const ParameterInfo&, at::Tensor&)>& fill,
                     at::ScalarType compute_type) {
  Gpt2Model model;
  model.definition = make_gpt2(options);
  for (const UnitInfo& unit : model.definition->units()) {
    auto& tensors = model.parameters.emplace_back();
    for (const ParameterInfo& info : unit.parameters) {
      at::Tensor t = torch::empty(info.shape);
      fill(info, t);
      if (info.shape.size() > 1) t = t.to(compute_type);
      tensors.push_back(t.requires_grad_());
    }
  }
  for (size_t u = 0; u < model.parameters.size(); ++u) {
    std::vector<at::Tensor> tensors = model.parameters[u];
    for (const BorrowedParameter& b : model.definition->units()[u].borrowed) tensors.push_back(model.parameters[b.unit][b.parameter]);
    model.units.push_back(model.definition->make_unit(static_cast<int>(u), tensors));
  }
  return model;
}

Gpt2Model make_random_model(const Gpt2Options& options, uint64_t seed, at::ScalarType compute_type) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return make_model(
      options,
      [&](const ParameterInfo& info, at::Tensor& t) {
        t.normal_(0, info.shape.size() > 1 ? 0.1 : 0.2, generator);
        if (info.init.kind == ParameterInit::Kind::Ones) t.add_(1);
      },
      compute_type);
}

Batch make_batch(int64_t samples, int64_t length, int64_t vocabulary, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  Batch batch;
  batch.tokens = torch::randint(vocabulary, {samples, length}, generator, at::kLong);
  batch.labels = torch::randint(vocabulary, {samples, length}, generator, at::kLong);
  for (int64_t i = 0; i < samples; ++i) batch.sample_ids.push_back(i);
  batch.valid_tokens = batch.global_valid_tokens = samples * length;
  return batch;
}

at::Tensor plain_logits(Gpt2Model& m, const Gpt2Options& o, const Batch& batch) {
  const int64_t b = batch.tokens.size(0), t = batch.tokens.size(1), c = o.n_embd;
  const auto p = [&](const std::string& name) -> at::Tensor& { return m.parameter("transformer." + name); };
  const auto norm = [&](const at::Tensor& x, const std::string& name) {
    return torch::layer_norm(x, {c}, p(name + ".weight"), p(name + ".bias"), o.layer_norm_epsilon);
  };
  const auto affine = [&](const at::Tensor& x, const std::string& name) { return x.matmul(p(name + ".weight")) + p(name + ".bias"); };
  const auto positions = batch.positions.defined() ? batch.positions : torch::arange(t).unsqueeze(0);
  at::Tensor x = torch::embedding(p("wte.weight"), batch.tokens) + torch::embedding(p("wpe.weight"), positions);
  const at::Tensor future = torch::ones({t, t}, at::kBool).triu(1);
  for (int64_t i = 0; i < o.n_layer; ++i) {
    const std::string h = "h." + std::to_string(i);
    auto qkv = affine(norm(x, h + ".ln_1"), h + ".attn.c_attn").split(c, 2);
    for (auto& y : qkv) y = y.view({b, t, o.n_head, c / o.n_head}).transpose(1, 2);
    at::Tensor scores = qkv[0].matmul(qkv[1].transpose(2, 3)) / std::sqrt(static_cast<double>(c / o.n_head));
    scores = scores.masked_fill(future, -INFINITY).softmax(-1);
    x = x + affine(scores.matmul(qkv[2]).transpose(1, 2).reshape({b, t, c}), h + ".attn.c_proj");
    x = x + affine(torch::gelu(affine(norm(x, h + ".ln_2"), h + ".mlp.c_fc"), "tanh"), h + ".mlp.c_proj");
  }
  const at::Tensor& head = o.tie_word_embeddings ? p("wte.weight") : m.parameter("lm_head.weight");
  return norm(x, "ln_f").matmul(head.t());
}

double relative_distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  return (x - y).norm().item<double>() / y.norm().item<double>();
}

}  // namespace zerostep
