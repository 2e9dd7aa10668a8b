#include "models/llama/units.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>

#include "models/attention.h"
#include "models/branch_functions.h"
#include "models/carried_tokens.h"
#include "models/llama/functions.h"
#include "models/rms_norm.h"
#include "models/score_head.h"
#include "models/swiglu.h"
#include "models/unit_inputs.h"

namespace zerostep::llama {

namespace {

class Embedding final : public Unit {
 public:
  Embedding(const LlamaOptions& options, const std::vector<at::Tensor>& parameters) : options_(options), weight_(parameters.at(0)) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    return {embed(checked(inputs, context).tokens, weight_, options_.ties_head())};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("embedding", p, 1, {});
    return {branch_lookup(checked(inputs, context).tokens, weight_, p.parameters[0], p)};
  }

 private:
  const Batch& checked(const TensorList& inputs, const ForwardContext& context) const {
    return embedding_batch(inputs, context, "max_position_embeddings", options_.max_position_embeddings);
  }

  LlamaOptions options_;
  at::Tensor weight_;
};

class Layer final : public Unit {
 public:
  Layer(const LlamaOptions& options, int index, const std::vector<at::Tensor>& parameters)
      : options_(options),
        index_(index),
        num_parameters_(parameters.size()),
        shape_{options.num_attention_heads, options.key_value_heads(), options.head_width(), options.rms_norm_eps},
        frequencies_(rotary_frequencies(options.rope, options.head_width()).to(parameters.at(0).device())) {
    size_t next = 0;
    const auto take = [&](at::Tensor& tensor, size_t& place) {
      place = next;
      tensor = parameters.at(next++);
    };
    const auto affine = [&](Affine& weights, Places& places, bool bias) {
      take(weights.weight, places.weight);
      if (bias) take(weights.bias, places.bias);
    };
    affine(attention_.q, q_, options.input_bias());
    affine(attention_.k, k_, options.input_bias());
    affine(attention_.v, v_, options.input_bias());
    affine(attention_.output, output_, options.output_bias());
    take(mlp_.gate, gate_);
    take(mlp_.up, up_);
    take(mlp_.down, down_);
    take(attention_.gain, norm_1_);
    take(mlp_.gain, norm_2_);
  }

  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    const Batch& batch = *context.batch;
    const at::Tensor middle = attention(only_input(inputs, "layers", index_), attention_, shape_, rotation(batch), allowed_pairs(batch));
    return {mlp(middle, mlp_, shape_.epsilon)};
  }

  TensorList forward_branches(const TensorList& inputs, const ForwardContext& context, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("layer", p, num_parameters_, only_input(inputs, "layers", index_));
    const at::Tensor middle = attend_branches(inputs[0].contiguous(), *context.batch, p);
    const auto inner = [&] {
      const at::Tensor rows = rms_norm(middle, branch_vector(mlp_.gain, p.parameters[norm_2_]), shape_.epsilon);
      const auto times = [&](const at::Tensor& weight, size_t place) {
        return branch_affine(rows, transposed_branch_matrix(weight, p.parameters[place]), {}, {}, p.branches);
      };
      at::Tensor gated = times(mlp_.gate, gate_);
      swiglu_(gated, times(mlp_.up, up_));
      return gated;
    };
    return {
        branch_affine(inner(), transposed_branch_matrix(mlp_.down, p.parameters[down_]), {}, middle, p.branches).view(inputs[0].sizes())};
  }

 private:
  // Where a matrix and its bias stand among the unit's parameters.
  struct Places {
    size_t weight = 0, bias = 0;
  };

  Rotation rotation(const Batch& batch) const {
    const at::Tensor positions =
        batch.positions.defined() ? batch.positions.flatten() : at::arange(batch.tokens.size(1), batch.tokens.options());
    return make_rotation(frequencies_, positions);
  }
  static at::Tensor affine_branches(const at::Tensor& rows, const Affine& weights, const Places& places, const at::Tensor& base,
                                    const BranchPerturbation& p) {
    const at::Tensor offset = weights.bias.defined() ? branch_vector(weights.bias, p.parameters[places.bias]) : at::Tensor();
    return branch_affine(rows, transposed_branch_matrix(weights.weight, p.parameters[places.weight]), offset, base, p.branches);
  }
  // Rows of x + attention(x).
  at::Tensor attend_branches(const at::Tensor& x, const Batch& batch, const BranchPerturbation& p) const {
    const at::Tensor rows = x.view({-1, x.size(2)});
    // The norm's rows are gone before attention, queries, keys and values before the projection.
    const auto input = [&]() -> AttentionInput {
      const at::Tensor normal = rms_norm(rows, branch_vector(attention_.gain, p.parameters[norm_1_]), shape_.epsilon);
      const at::Tensor q = affine_branches(normal, attention_.q, q_, {}, p), k = affine_branches(normal, attention_.k, k_, {}, p),
                       v = affine_branches(normal, attention_.v, v_, {}, p);
      const Rotation turn = rotation(batch);
      rotate_(q, turn);
      rotate_(k, turn);
      const auto heads = [&](const at::Tensor& t) { return t.view({x.size(0), x.size(1), -1, shape_.head_width}).transpose(1, 2); };
      return {heads(q), heads(k), heads(v), branch_allowed_pairs(batch, p), true};
    };
    const auto attended = [&] { return attend(input()).output; };
    return affine_branches(attended().transpose(1, 2).reshape({rows.size(0), -1}), attention_.output, output_, rows, p);
  }

  LlamaOptions options_;
  int index_;
  size_t num_parameters_;
  AttentionShape shape_;
  at::Tensor frequencies_;  // of the rotation, on the unit's device
  AttentionWeights attention_;
  MlpWeights mlp_;
  Places q_, k_, v_, output_;
  size_t gate_ = 0, up_ = 0, down_ = 0, norm_1_ = 0, norm_2_ = 0;
};

class Head final : public Unit {
 public:
  Head(const LlamaOptions& options, const std::vector<at::Tensor>& p) : epsilon_(options.rms_norm_eps), gain_(p.at(0)), weight_(p.at(1)) {}
  TensorList forward(const TensorList& inputs, const ForwardContext& context) override {
    if (context.takes_factors) return {final_norm(only_input(inputs, "head"), gain_, epsilon_), weight_};
    return {logits(only_input(inputs, "head"), gain_, weight_, epsilon_)};
  }
  TensorList forward_branches(const TensorList& inputs, const ForwardContext&, const BranchPerturbation& p) override {
    const at::NoGradGuard no_grad;
    check_branches("head", p, 2, only_input(inputs, "head"));
    const at::Tensor& x = inputs[0];
    const at::Tensor rows = rms_norm(x.reshape({-1, x.size(2)}), branch_vector(gain_, p.parameters[0]), epsilon_);
    const at::Tensor y = branch_affine(rows, transposed_branch_matrix(weight_, p.parameters[1]), {}, {}, p.branches);
    return {y.view({x.size(0), x.size(1), weight_.size(0)})};
  }

 private:
  double epsilon_;
  at::Tensor gain_, weight_;
};

}  // namespace

std::unique_ptr<Unit> make_unit(const LlamaOptions& options, int index, const std::vector<at::Tensor>& parameters) {
  if (index == 0) return std::make_unique<Embedding>(options, parameters);
  if (index > options.num_hidden_layers) {
    auto head = std::make_unique<Head>(options, parameters);
    if (options.num_labels == 0) return head;
    return make_score_head(std::move(head), carried_token(options.carried, "pad_token_id"));
  }
  return std::make_unique<Layer>(options, index - 1, parameters);
}

}  // namespace zerostep::llama
