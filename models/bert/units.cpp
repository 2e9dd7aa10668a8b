#include "models/bert/units.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/zeros_like.h>

#include "base/error.h"
#include "models/bert/functions.h"
#include "models/branch_functions.h"
#include "models/branch_kernels.h"
#include "models/unit_inputs.h"

namespace zerostep::bert {

namespace {

enum DropoutSite { kEmbeddingSite, kAttentionSite, kAttentionOutputSite, kMlpSite, kClassifierSite, kPooledSite };

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

// Where the parameters of an embedding stand: as transformers registers them, RoBERTa's positions last.
struct EmbeddingPlaces {
  size_t word = 0, position = 1, type = 2, norm = 3, count = 5;
};
EmbeddingPlaces embedding_places(BertOptions::Kind kind) {
  if (kind == BertOptions::Kind::Roberta) return {.position = 4, .type = 1, .norm = 2};
  if (kind == BertOptions::Kind::DistilBert) return {.norm = 2, .count = 4};
  return {};
}

class Embedding final : public Unit {
 public:
  Embedding(const BertOptions& options, const std::vector<at::Tensor>& p) : options_(options), places_(embedding_places(options.kind)) {
    weights_.word = p.at(places_.word), weights_.position = p.at(places_.position);
    if (options.has_types()) weights_.type = p.at(places_.type);
    weights_.norm = {p.at(places_.norm), p.at(places_.norm + 1), options.layer_norm_eps};
    weights_.tied = options.predicts_tokens();
  }
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const Batch& batch = checked(inputs, context);
    return {embed({batch.tokens, positions_of(batch), batch.token_types}, weights_,
                  Dropout(options_.hidden_dropout_prob, context, 0, kEmbeddingSite))};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("embedding", p, places_.count, {});
    Batch batch = checked(inputs, context);
    batch.positions = positions_of(batch);
    const BranchPerturbation tables{p.branches, p.own_batches, {p.parameters[places_.word], p.parameters[places_.position]}};
    at::Tensor sum = branch_embed(batch, weights_.word, weights_.position, tables);
    if (weights_.type.defined()) {
      const at::Tensor types = batch.token_types.defined() ? batch.token_types : at::zeros_like(batch.tokens);
      sum.add_(branch_lookup(types, weights_.type, p.parameters[places_.type], p));
    }
    return {norm_branches(sum.view({-1, sum.size(2)}), weights_.norm, places_.norm, p).view(sum.sizes())};
  }

 private:
  const Batch& checked(const TensorList& inputs, const ForwardContext& context) const {
    const bool counts = options_.kind == BertOptions::Kind::Roberta;
    return embedding_batch(inputs, context, counts ? "max_position_embeddings - pad_token_id - 1 =" : "max_position_embeddings",
                           options_.longest_sample());
  }
  // RoBERTa counts the tokens that are no padding, from the row behind that of padding.
  at::Tensor positions_of(const Batch& batch) const {
    if (options_.kind != BertOptions::Kind::Roberta) return batch.positions;
    if (batch.positions.defined()) return batch.positions.add(options_.first_position());
    const at::Tensor counted = batch.tokens.ne(options_.padding_token);
    return at::cumsum(counted, 1).mul_(counted).add_(options_.padding_token);
  }

  BertOptions options_;
  EmbeddingPlaces places_;
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
        attention_output(x, attended(), output_, norm_1_, dropout(options_.attention_output_dropout(), kAttentionOutputSite));
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
    weights_.relu = options.kind == BertOptions::Kind::DistilBert;
    size_t next = 0;
    if (!weights_.mean) {
      weights_.pooler = {p.at(0), p.at(1)};
      next = 2;
    }
    weights_.classifier = {p.at(next), p.at(next + 1)};
  }
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const auto dropout = [&](double p, int site) { return Dropout(p, context, static_cast<int>(options_.num_hidden_layers) + 1, site); };
    return {classify(only_input(inputs, "head"), context.batch->mask, weights_,
                     {dropout(options_.pooled_dropout(), kPooledSite), dropout(options_.head_dropout(), kClassifierSite)})};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("head", p, weights_.mean ? 2 : 4, only_input(inputs, "head"));
    at::Tensor rows = pool(inputs[0], repeat_for_branches(context.batch->mask, p), weights_.mean);
    if (!weights_.mean) {
      rows = affine_branches(rows, weights_.pooler, 0, {}, p);
      weights_.relu ? rows.relu_() : rows.tanh_();
    }
    return {affine_branches(rows, weights_.classifier, weights_.mean ? 0 : 2, {}, p)};
  }

 private:
  BertOptions options_;
  ClassifierWeights weights_;
};

class WordPrediction final : public Unit {
 public:
  // The bias of the words is the first parameter, or of DistilBERT the last of the unit's own.
  WordPrediction(const BertOptions& options, const std::vector<at::Tensor>& p)
      : dense_(options.kind == BertOptions::Kind::DistilBert ? 0 : 1), bias_(dense_ == 0 ? 4 : 0) {
    weights_.dense = {p.at(dense_), p.at(dense_ + 1)};
    weights_.norm = {p.at(dense_ + 2), p.at(dense_ + 3), options.layer_norm_eps};
    weights_.words = {p.at(kTable), p.at(bias_)};
  }
  TensorList forward(const TensorList& inputs, const ForwardContext&) override {
    return {predict_words(only_input(inputs, "head"), weights_)};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext&, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("head", p, kTable + 1, only_input(inputs, "head"));
    const at::Tensor& x = inputs[0];
    const auto rows = [&] {
      at::Tensor inner = affine_branches(x.reshape({-1, x.size(2)}), weights_.dense, dense_, {}, p);
      return norm_branches(at::gelu_(inner), weights_.norm, dense_ + 2, p);
    };
    const at::Tensor logits = branch_affine(rows(), transposed_branch_matrix(weights_.words.weight, p.parameters[kTable]),
                                            branch_vector(weights_.words.bias, p.parameters[bias_]), {}, p.branches);
    return {logits.view({x.size(0), x.size(1), weights_.words.weight.size(0)})};
  }

 private:
  static constexpr size_t kTable = 5;  // the embedding's, borrowed
  size_t dense_, bias_;
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
