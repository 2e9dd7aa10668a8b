#include "models/gpt2/units.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>

#include "base/error.h"
#include "models/gpt2/functions.h"

namespace zerostep::gpt2 {

namespace {

enum DropoutSite { kEmbeddingSite, kAttentionSite, kAttentionOutputSite, kMlpSite };

class Embedding final : public Unit {
 public:
  Embedding(const Gpt2Options& options, std::vector<at::Tensor> parameters) : options_(options), parameters_(std::move(parameters)) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    if (!inputs.empty()) fail_protocol("[embedding] expected no inputs, found {}", inputs.size());
    const Batch& batch = *context.batch;
    if (!batch.positions.defined() && batch.tokens.size(1) > options_.n_positions) {
      fail_input("a sample of {} tokens is longer than the model's n_positions {}; choose a shorter data.sequence_length",
                 batch.tokens.size(1), options_.n_positions);
    }
    return {embed(batch.tokens, batch.positions, parameters_[0], parameters_[1], options_.tie_word_embeddings,
                  Dropout(options_.embd_pdrop, context, 0, kEmbeddingSite))};
  }

 private:
  Gpt2Options options_;
  std::vector<at::Tensor> parameters_;
};

class Block final : public Unit {
 public:
  Block(const Gpt2Options& options, int index, std::vector<at::Tensor> p) : options_(options), index_(index) {
    norm_1_ = {p[0], p[1], options.layer_norm_epsilon};
    qkv_ = p[2], qkv_bias_ = p[3], projection_ = p[4], projection_bias_ = p[5];
    norm_2_ = {p[6], p[7], options.layer_norm_epsilon};
    mlp_ = {p[8], p[9], p[10], p[11]};
  }
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    if (inputs.size() != 1) fail_protocol("[h.{}] expected 1 input, found {}", index_, inputs.size());
    const at::Tensor& x = inputs[0];
    const auto dropout = [&](double p, int site) { return Dropout(p, context, index_ + 1, site); };
    // One expression: what attention gives is gone before the MLP starts, unless the graph keeps it.
    const at::Tensor middle = attention_output(x,
                                               attention(attention_input(x, norm_1_, qkv_, qkv_bias_, options_.n_head),
                                                         allowed_pairs(*context.batch), dropout(options_.attn_pdrop, kAttentionSite)),
                                               projection_, projection_bias_, dropout(options_.resid_pdrop, kAttentionOutputSite));
    return {mlp(middle, norm_2_, mlp_, dropout(options_.resid_pdrop, kMlpSite))};
  }

 private:
  Gpt2Options options_;
  int index_;
  Norm norm_1_, norm_2_;
  at::Tensor qkv_, qkv_bias_, projection_, projection_bias_;
  MlpWeights mlp_;
};

class Head final : public Unit {
 public:
  Head(const Gpt2Options& options, std::vector<at::Tensor> p) : norm_{p[0], p[1], options.layer_norm_epsilon}, weight_(p[2]) {}
  TensorList forward(const TensorList& inputs, const ForwardContext&) override {
    if (inputs.size() != 1) fail_protocol("[head] expected 1 input, found {}", inputs.size());
    return {logits(inputs[0], norm_, weight_)};
  }

 private:
  Norm norm_;
  at::Tensor weight_;
};

}  // namespace

std::unique_ptr<Unit> make_embedding(const Gpt2Options& options, std::vector<at::Tensor> parameters) {
  return std::make_unique<Embedding>(options, std::move(parameters));
}
std::unique_ptr<Unit> make_block(const Gpt2Options& options, int index, std::vector<at::Tensor> parameters) {
  return std::make_unique<Block>(options, index, std::move(parameters));
}
std::unique_ptr<Unit> make_head(const Gpt2Options& options, std::vector<at::Tensor> parameters) {
  return std::make_unique<Head>(options, std::move(parameters));
}

at::Tensor allowed_pairs(const Batch& batch) {
  if (!batch.mask.defined() && !batch.document_ids.defined()) return {};
  const int64_t length = batch.tokens.size(1);
  const auto options = batch.tokens.options().dtype(at::kBool);
  at::Tensor allowed = at::ones({length, length}, options).tril_().unsqueeze(0);
  if (batch.mask.defined()) allowed = allowed.logical_and(batch.mask.unsqueeze(1));
  if (batch.document_ids.defined()) allowed = allowed.logical_and(batch.document_ids.unsqueeze(2).eq(batch.document_ids.unsqueeze(1)));
  return allowed.logical_or(at::eye(length, options)).unsqueeze(1);
}

}  // namespace zerostep::gpt2
