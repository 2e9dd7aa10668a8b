#include "models/bert/units.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"
#include "models/bert/functions.h"
#include "models/branch_functions.h"
#include "models/branch_kernels.h"
#include "models/unit_inputs.h"

namespace zerostep::bert {

namespace {

enum DropoutSite { kEmbeddingSite, kAttentionSite, kAttentionOutputSite, kMlpSite, kClassifierSite };

at::Tensor allowed_tokens(const Batch& batch) {
  if (batch.document_ids.defined()) fail_protocol("[bert] expected one document a sample: every token sees the whole sample");
  return batch.mask.defined() ? batch.mask.view({batch.mask.size(0), 1, 1, batch.mask.size(1)}) : at::Tensor();
}
at::Tensor repeat_for_branches(const at::Tensor& samples, const BranchPerturbation& p) {
  if (!samples.defined() || p.own_batches) return samples;
  std::vector<int64_t> repeats(static_cast<size_t>(samples.dim()), 1);
  repeats[0] = p.branches;
  return samples.repeat(repeats);
}

// Parameters `place` (a matrix [out, in]) and the one behind it (its bias) as the branches see them.
at::Tensor affine_branches(const at::Tensor& rows, const Affine& a, size_t place, const at::Tensor& base, const BranchPerturbation& p) {
  return branch_affine(rows, transposed_branch_matrix(a.weight, p.parameters[place]), branch_vector(a.bias, p.parameters[place + 1]), base,
                       p.branches);
}
at::Tensor norm_branches(const at::Tensor& rows, const Norm& norm, size_t place, const BranchPerturbation& p) {
  return branch_norm(rows, branch_vector(norm.gain, p.parameters[place]), branch_vector(norm.offset, p.parameters[place + 1]),
                     norm.epsilon);
}

class Embedding final : public Unit {
 public:
  Embedding(const BertOptions& options, const std::vector<at::Tensor>& p)
      : options_(options), weights_{p.at(0), p.at(1), p.at(2), {p.at(3), p.at(4), options.layer_norm_eps}, options.predicts_tokens()} {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const Batch& batch = checked(inputs, context);
    return {embed({batch.tokens, batch.positions, batch.token_types}, weights_,
                  Dropout(options_.hidden_dropout_prob, context, 0, kEmbeddingSite))};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("embedding", p, 5, {});
    const Batch& batch = checked(inputs, context);
    const BranchPerturbation tables{p.branches, p.own_batches, {p.parameters[0], p.parameters[1]}};
    at::Tensor sum = branch_embed(batch, weights_.word, weights_.position, tables);
    const at::Tensor types = batch.token_types.defined() ? batch.token_types : at::zeros_like(batch.tokens);
    sum.add_(branch_lookup(types, weights_.type, p.parameters[2], p));
    return {norm_branches(sum.view({-1, sum.size(2)}), weights_.norm, 3, p).view(sum.sizes())};
  }

 private:
  const Batch& checked(const TensorList& inputs, const ForwardContext& context) const {
    return embedding_batch(inputs, context, "max_position_embeddings", options_.max_position_embeddings);
  }

  BertOptions options_;
  EmbeddingWeights weights_;
};

class Layer final : public Unit {
 public:
  Layer(const BertOptions& options, int index, const std::vector<at::Tensor>& p) : options_(options), index_(index) {
    q_ = {p.at(0), p.at(1)}, k_ = {p.at(2), p.at(3)}, v_ = {p.at(4), p.at(5)}, output_ = {p.at(6), p.at(7)};
    norm_1_ = {p.at(8), p.at(9), options.layer_norm_eps};
    up_ = {p.at(10), p.at(11)}, down_ = {p.at(12), p.at(13)};
    norm_2_ = {p.at(14), p.at(15), options.layer_norm_eps};
  }
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const at::Tensor& x = only_input(inputs, "layer", index_);
    const auto dropout = [&](double p, int site) { return Dropout(p, context, index_ + 1, site); };
    // Queries, keys and values are gone before the projection, what attention gives before the MLP starts, unless the graph keeps them.
    const auto attended = [&] {
      return attention(attention_input(x, q_, k_, v_, options_.num_attention_heads), allowed_tokens(*context.batch),
                       dropout(options_.attention_probs_dropout_prob, kAttentionSite));
    };
    const at::Tensor middle =
        attention_output(x, attended(), output_, norm_1_, dropout(options_.hidden_dropout_prob, kAttentionOutputSite));
    return {mlp(middle, up_, down_, norm_2_, dropout(options_.hidden_dropout_prob, kMlpSite))};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("layer", p, 16, only_input(inputs, "layer", index_));
    const at::Tensor x = inputs[0].contiguous(), rows = x.view({-1, x.size(2)});
    const auto attended = [&] {
      const auto heads = [&](const Affine& a, size_t place) {
        return affine_branches(rows, a, place, {}, p)
            .view({x.size(0), x.size(1), options_.num_attention_heads, x.size(2) / options_.num_attention_heads})
            .transpose(1, 2);
      };
      return attention({heads(q_, 0), heads(k_, 2), heads(v_, 4)}, repeat_for_branches(allowed_tokens(*context.batch), p), Dropout())
          .transpose(1, 2)
          .reshape(rows.sizes());
    };
    const at::Tensor middle = norm_branches(affine_branches(attended(), output_, 6, rows, p), norm_1_, 8, p);
    const auto inner = [&] {
      at::Tensor y = affine_branches(middle, up_, 10, {}, p);
      return at::gelu_(y);
    };
    const at::Tensor sum = affine_branches(inner(), down_, 12, middle, p);
    return {norm_branches(sum, norm_2_, 14, p).view(x.sizes())};
  }

 private:
  BertOptions options_;
  int index_;
  Affine q_, k_, v_, output_, up_, down_;
  Norm norm_1_, norm_2_;
};

class Head final : public Unit {
 public:
  Head(const BertOptions& options, const std::vector<at::Tensor>& p) : options_(options) {
    weights_.mean = options.pooling == BertOptions::Pooling::Mean;
    size_t next = 0;
    if (!weights_.mean) {
      weights_.pooler = {p.at(0), p.at(1)};
      next = 2;
    }
    weights_.classifier = {p.at(next), p.at(next + 1)};
  }
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const Dropout dropout(options_.head_dropout(), context, static_cast<int>(options_.num_hidden_layers) + 1, kClassifierSite);
    return {classify(only_input(inputs, "head"), context.batch->mask, weights_, dropout)};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("head", p, weights_.mean ? 2 : 4, only_input(inputs, "head"));
    at::Tensor rows = pool(inputs[0], repeat_for_branches(context.batch->mask, p), weights_.mean);
    if (!weights_.mean) rows = affine_branches(rows, weights_.pooler, 0, {}, p).tanh_();
    return {affine_branches(rows, weights_.classifier, weights_.mean ? 0 : 2, {}, p)};
  }

 private:
  BertOptions options_;
  ClassifierWeights weights_;
};

class WordPrediction final : public Unit {
 public:
  WordPrediction(const BertOptions& options, const std::vector<at::Tensor>& p)
      : weights_{{p.at(1), p.at(2)}, {p.at(3), p.at(4), options.layer_norm_eps}, {p.at(5), p.at(0)}} {}
  TensorList forward(const TensorList& inputs, const ForwardContext&) override {
    return {predict_words(only_input(inputs, "head"), weights_)};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext&, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("head", p, 6, only_input(inputs, "head"));
    const at::Tensor& x = inputs[0];
    const auto rows = [&] {
      at::Tensor inner = affine_branches(x.reshape({-1, x.size(2)}), weights_.dense, 1, {}, p);
      return norm_branches(at::gelu_(inner), weights_.norm, 3, p);
    };
    const at::Tensor logits = branch_affine(rows(), transposed_branch_matrix(weights_.words.weight, p.parameters[5]),
                                            branch_vector(weights_.words.bias, p.parameters[0]), {}, p.branches);
    return {logits.view({x.size(0), x.size(1), weights_.words.weight.size(0)})};
  }

 private:
  WordPredictionWeights weights_;
};

}  // namespace

std::unique_ptr<Unit> make_unit(const BertOptions& options, int index, const std::vector<at::Tensor>& parameters) {
  if (index == 0) return std::make_unique<Embedding>(options, parameters);
  if (index > options.num_hidden_layers) {
    if (options.predicts_tokens()) return std::make_unique<WordPrediction>(options, parameters);
    return std::make_unique<Head>(options, parameters);
  }
  return std::make_unique<Layer>(options, index - 1, parameters);
}

}  // namespace zerostep::bert
