#include "models/gpt2/units.h"

#include <ATen/core/grad_mode.h>

#include "models/attention.h"
#include "models/branch_functions.h"
#include "models/branch_kernels.h"
#include "models/carried_tokens.h"
#include "models/gelu.h"
#include "models/gpt2/functions.h"
#include "models/score_head.h"
#include "models/unit_inputs.h"

namespace zerostep::gpt2 {

namespace {

enum DropoutSite { kEmbeddingSite, kAttentionSite, kAttentionOutputSite, kMlpSite };

class Embedding final : public Unit {
 public:
  Embedding(const Gpt2Options& options, const std::vector<at::Tensor>& parameters) : options_(options), parameters_(parameters) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const Batch& batch = checked(inputs, context);
    return {embed(batch.tokens, batch.positions, parameters_[0], parameters_[1], options_.ties_head(),
                  Dropout(options_.embd_pdrop, context, 0, kEmbeddingSite))};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& perturbation) override {
    const at::NoGradGuard no_grad;
    check_branches("embedding", perturbation, parameters_.size(), {});
    return {branch_embed(checked(inputs, context), parameters_[0], parameters_[1], perturbation)};
  }

 private:
  const Batch& checked(const TensorList& inputs, const ForwardContext& context) const {
    return embedding_batch(inputs, context, "n_positions", options_.n_positions);
  }

  Gpt2Options options_;
  std::vector<at::Tensor> parameters_;
};

class Block final : public Unit {
 public:
  Block(const Gpt2Options& options, int index, const std::vector<at::Tensor>& p) : options_(options), index_(index) {
    norm_1_ = {p[0], p[1], options.layer_norm_epsilon};
    qkv_ = p[2], qkv_bias_ = p[3], projection_ = p[4], projection_bias_ = p[5];
    norm_2_ = {p[6], p[7], options.layer_norm_epsilon};
    mlp_ = {p[8], p[9], p[10], p[11]};
  }
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const at::Tensor& x = only_input(inputs, "h", index_);
    const auto dropout = [&](double p, int site) { return Dropout(p, context, index_ + 1, site); };
    // Queries, keys and values are gone before the projection, what attention gives before the MLP starts, unless the graph keeps them.
    const auto attended = [&] {
      return attention(attention_input(x, norm_1_, qkv_, qkv_bias_, options_.n_head), allowed_pairs(*context.batch),
                       dropout(options_.attn_pdrop, kAttentionSite));
    };
    const at::Tensor middle =
        attention_output(x, attended(), projection_, projection_bias_, dropout(options_.resid_pdrop, kAttentionOutputSite));
    return {mlp(middle, norm_2_, mlp_, dropout(options_.resid_pdrop, kMlpSite))};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("block", p, 12, only_input(inputs, "h", index_));
    const at::Tensor middle = attend_branches(inputs[0].contiguous(), branch_allowed_pairs(*context.batch, p), p);
    const at::Tensor inner = branch_affine(normalise_branches(middle, norm_2_, p, 6), branch_matrix(mlp_.up, p.parameters[8]),
                                           branch_vector(mlp_.up_bias, p.parameters[9]), {}, p.branches);
    tanh_gelu_(inner);
    return {branch_affine(inner, branch_matrix(mlp_.down, p.parameters[10]), branch_vector(mlp_.down_bias, p.parameters[11]), middle,
                          p.branches)
                .view(inputs[0].sizes())};
  }

 private:
  at::Tensor normalise_branches(const at::Tensor& rows, const Norm& norm, const BranchPerturbation& p, size_t first) const {
    return branch_norm(rows, branch_vector(norm.gain, p.parameters[first]), branch_vector(norm.offset, p.parameters[first + 1]),
                       norm.epsilon);
  }
  // Rows of x + attention(x).
  at::Tensor attend_branches(const at::Tensor& x, const at::Tensor& allowed, const BranchPerturbation& p) const {
    const int64_t width = x.size(2);
    const at::Tensor rows = x.view({-1, width});
    const auto input = [&]() -> std::array<at::Tensor, 3> {
      const at::Tensor qkv = branch_affine(normalise_branches(rows, norm_1_, p, 0), branch_matrix(qkv_, p.parameters[2]),
                                           branch_vector(qkv_bias_, p.parameters[3]), {}, p.branches)
                                 .view({x.size(0), x.size(1), 3, options_.n_head, width / options_.n_head})
                                 .permute({2, 0, 3, 1, 4});
      return {qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2)};
    };
    const at::Tensor attended = attention(input(), allowed, Dropout()).transpose(1, 2).reshape({-1, width});
    return branch_affine(attended, branch_matrix(projection_, p.parameters[4]), branch_vector(projection_bias_, p.parameters[5]), rows,
                         p.branches);
  }

  Gpt2Options options_;
  int index_;
  Norm norm_1_, norm_2_;
  at::Tensor qkv_, qkv_bias_, projection_, projection_bias_;
  MlpWeights mlp_;
};

class Head final : public Unit {
 public:
  Head(const Gpt2Options& options, const std::vector<at::Tensor>& p) : norm_{p[0], p[1], options.layer_norm_epsilon}, weight_(p[2]) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    if (context.takes_factors) return {final_norm(only_input(inputs, "head"), norm_), weight_};
    return {logits(only_input(inputs, "head"), norm_, weight_)};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext&, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("head", p, 3, only_input(inputs, "head"));
    const at::Tensor& x = inputs[0];
    const at::Tensor rows = branch_norm(x.reshape({-1, x.size(2)}), branch_vector(norm_.gain, p.parameters[0]),
                                        branch_vector(norm_.offset, p.parameters[1]), norm_.epsilon);
    const at::Tensor y = branch_affine(rows, transposed_branch_matrix(weight_, p.parameters[2]), {}, {}, p.branches);
    return {y.view({x.size(0), x.size(1), weight_.size(0)})};
  }

 private:
  Norm norm_;
  at::Tensor weight_;
};

}  // namespace

std::unique_ptr<Unit> make_unit(const Gpt2Options& options, int index, const std::vector<at::Tensor>& parameters) {
  if (index == 0) return std::make_unique<Embedding>(options, parameters);
  if (index > options.n_layer) {
    auto head = std::make_unique<Head>(options, parameters);
    if (options.num_labels == 0) return head;
    return make_score_head(std::move(head), carried_token(options.carried, "pad_token_id"));
  }
  return std::make_unique<Block>(options, index - 1, parameters);
}

}  // namespace zerostep::gpt2
