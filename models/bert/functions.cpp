#include "models/bert/functions.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "models/autograd_node.h"
#include "models/fused_attention.h"
#include "models/gpt2/functions.h"
#include "models/parameter_gradient.h"

namespace zerostep::bert {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

at::Tensor sum_of_rows(const EmbeddingIndices& i, const EmbeddingWeights& w) {
  at::Tensor y = at::embedding(w.word, i.tokens);
  y.add_(i.positions.defined() ? at::embedding(w.position, i.positions) : w.position.narrow(0, 0, i.tokens.size(1)));
  if (!w.type.defined()) return y;
  return y.add_(i.types.defined() ? at::embedding(w.type, i.types) : w.type.select(0, 0));
}

struct EmbedContext {
  EmbeddingIndices indices;
  double epsilon;
  bool tied;
  Dropout dropout;
};

struct Embed : Function<Embed> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& word, const at::Tensor& position,
                            const std::optional<at::Tensor>& types, const at::Tensor& gain, const at::Tensor& offset,
                            const EmbedContext& c) {
    const at::Tensor type = types.value_or(at::Tensor()), sum = sum_of_rows(c.indices, {word, position, type, {}, c.tied});
    const Normalised n = normalise(sum, {gain, offset, c.epsilon});
    // The backward reads no table: what it needs of them is where their gradients go.
    context->save_for_backward({word, position, type, gain, offset, sum, n.mean, n.rstd});
    keep(context, c);
    c.dropout.apply_(n.rows.view(sum.sizes()));
    return n.rows.view(sum.sizes());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto c = kept<EmbedContext>(context);
    const at::Tensor& sum = saved[5];
    ParameterGradient word(saved[0], c.tied), position(saved[1]), type(saved[2]), gain(saved[3]), offset(saved[4]);
    const Norm norm{saved[3], saved[4], c.epsilon};
    at::Tensor g;
    {
      const at::Tensor output_gradient = dropped(gradients[0].contiguous(), c.dropout);
      g = normalise_backward(output_gradient, sum, {{}, saved[6], saved[7]}, norm, gain, offset,
                             word.wanted() || position.wanted() || type.wanted());
    }
    if (g.defined()) {
      word.scattered_rows(c.indices.tokens.flatten(), rows_of(g));
      if (c.indices.positions.defined()) {
        position.scattered_rows(c.indices.positions.flatten(), rows_of(g));
      } else {
        position.leading_rows(g);
      }
      if (type.wanted()) {
        const at::Tensor types = c.indices.types.defined() ? c.indices.types : at::zeros_like(c.indices.tokens);
        type.scattered_rows(types.flatten(), rows_of(g));
      }
    }
    return gradients_of({}, {word, position, type, gain, offset}, 1);
  }
};

at::Tensor heads_of(const at::Tensor& rows, const at::Tensor& x, int64_t heads) {
  return rows.view({x.size(0), x.size(1), heads, x.size(2) / heads}).transpose(1, 2);
}

std::array<at::Tensor, 3> attention_input_forward(const at::Tensor& x, const Affine& q, const Affine& k, const Affine& v, int64_t heads) {
  const at::Tensor rows = rows_of(x);
  return {heads_of(affine(rows, q), x, heads), heads_of(affine(rows, k), x, heads), heads_of(affine(rows, v), x, heads)};
}

struct AttentionInput : Function<AttentionInput> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& q, const at::Tensor& q_bias,
                               const at::Tensor& k, const at::Tensor& k_bias, const at::Tensor& v, const at::Tensor& v_bias,
                               int64_t heads) {
    context->save_for_backward({x, q, q_bias, k, k_bias, v, v_bias});
    const auto result = attention_input_forward(x, {q, q_bias}, {k, k_bias}, {v, v_bias}, heads);
    return {result[0], result[1], result[2]};
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor rows = rows_of(x);
    variable_list result(8);
    at::Tensor g;
    for (size_t i = 0; i < 3; ++i) {
      const at::Tensor &w = saved[1 + 2 * i], part = rows_of_heads(gradients[i]);
      ParameterGradient weight(w), bias(saved[2 + 2 * i]);
      weight.product(part.t(), rows);
      bias.row_sum(part);
      if (x.requires_grad()) g = i == 0 ? at::mm(part, w) : g.addmm_(part, w);
      result[1 + 2 * i] = weight.autograd_value();
      result[2 + 2 * i] = bias.autograd_value();
    }
    if (g.defined()) result[0] = g.view(x.sizes());
    return result;
  }
};

struct NormContext {
  double epsilon;
  Dropout dropout;
};

struct AttentionOutput : Function<AttentionOutput> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& residual, const at::Tensor& attended, const at::Tensor& w,
                            const at::Tensor& bias, const at::Tensor& gain, const at::Tensor& offset, const NormContext& c) {
    const at::Tensor sum = add_affine(residual, rows_of_heads(attended), w.t(), bias, c.dropout);
    const Normalised n = normalise(sum, {gain, offset, c.epsilon});
    context->save_for_backward({attended, w, bias, gain, offset, sum, n.mean, n.rstd});
    keep(context, c);
    return n.rows.view(sum.sizes());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto c = kept<NormContext>(context);
    const at::Tensor &attended = saved[0], &w = saved[1];
    ParameterGradient weight(w), bias(saved[2]), gain(saved[3]), offset(saved[4]);
    const at::Tensor sum_gradient =
        normalise_backward(gradients[0], saved[5], {{}, saved[6], saved[7]}, {saved[3], saved[4], c.epsilon}, gain, offset, true);
    const at::Tensor g = rows_of(dropped(sum_gradient, c.dropout));
    if (weight.wanted()) weight.product(g.t(), rows_of_heads(attended));
    bias.row_sum(g);
    at::Tensor attended_gradient;
    if (attended.requires_grad()) {
      attended_gradient = at::mm(g, w).view({attended.size(0), attended.size(2), attended.size(1), attended.size(3)}).transpose(1, 2);
    }
    return gradients_of({sum_gradient, attended_gradient}, {weight, bias, gain, offset}, 1);
  }
};

struct Mlp : Function<Mlp> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& up, const at::Tensor& up_bias,
                            const at::Tensor& down, const at::Tensor& down_bias, const at::Tensor& gain, const at::Tensor& offset,
                            const NormContext& c) {
    const at::Tensor inner = affine(rows_of(x), {up, up_bias});
    const at::Tensor sum = add_affine(x, at::gelu(inner), down.t(), down_bias, c.dropout);
    const Normalised n = normalise(sum, {gain, offset, c.epsilon});
    context->save_for_backward({x, up, up_bias, down, down_bias, gain, offset, inner, sum, n.mean, n.rstd});
    keep(context, c);
    return n.rows.view(sum.sizes());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto c = kept<NormContext>(context);
    const at::Tensor &x = saved[0], &w_up = saved[1], &w_down = saved[3], &inner = saved[7];
    ParameterGradient up(w_up), up_bias(saved[2]), down(w_down), down_bias(saved[4]), gain(saved[5]), offset(saved[6]);
    const at::Tensor sum_gradient =
        normalise_backward(gradients[0], saved[8], {{}, saved[9], saved[10]}, {saved[5], saved[6], c.epsilon}, gain, offset, true);
    at::Tensor inner_gradient;
    {
      const at::Tensor g = rows_of(dropped(sum_gradient, c.dropout));
      inner_gradient = at::mm(g, w_down);
      if (down.wanted()) down.product(g.t(), at::gelu(inner));
      down_bias.row_sum(g);
    }
    at::gelu_backward_out(inner_gradient, inner_gradient, inner);
    up.product(inner_gradient.t(), rows_of(x));
    up_bias.row_sum(inner_gradient);
    at::Tensor x_gradient;
    if (x.requires_grad()) {
      x_gradient = sum_gradient;
      rows_of(x_gradient).addmm_(inner_gradient, w_up);
    }
    return gradients_of({x_gradient}, {up, up_bias, down, down_bias, gain, offset}, 1);
  }
};

// Which share of each token's row its sample's row takes: [B, T, 1] fp32.
at::Tensor shares(const at::Tensor& x, const at::Tensor& mask) {
  const at::Tensor counted =
      mask.defined() ? mask.to(at::kFloat) : at::ones({x.size(0), x.size(1)}, x.options().dtype(at::kFloat).requires_grad(false));
  return counted.div(counted.sum(1, true).clamp_min_(1)).unsqueeze(2);
}

struct ClassifyContext {
  at::Tensor mask;
  bool mean, relu;
  ClassifierDropouts dropouts;
};

at::Tensor hidden_of(const at::Tensor& rows, const Affine& pooler, bool relu) {
  if (!pooler.weight.defined()) return rows;
  at::Tensor hidden = affine(rows, pooler);
  return relu ? hidden.relu_() : hidden.tanh_();
}

struct Classify : Function<Classify> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& pooler,
                            const std::optional<at::Tensor>& pooler_bias, const at::Tensor& classifier, const at::Tensor& classifier_bias,
                            const ClassifyContext& c) {
    const Affine first{pooler.value_or(at::Tensor()), pooler_bias.value_or(at::Tensor())};
    const at::Tensor rows = dropped(pool(x, c.mask, c.mean), c.dropouts.pooled), hidden = hidden_of(rows, first, c.relu);
    context->save_for_backward({first.weight, first.bias, classifier, classifier_bias, rows, hidden});
    context->saved_data["shape"] = x.sizes().vec();
    context->saved_data["x_wanted"] = x.requires_grad();
    keep(context, c);
    return affine(dropped(hidden, c.dropouts.hidden), {classifier, classifier_bias});
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto c = kept<ClassifyContext>(context);
    const at::Tensor &w_pooler = saved[0], &w = saved[2], &rows = saved[4], &hidden = saved[5];
    ParameterGradient pooler(w_pooler), pooler_bias(saved[1]), classifier(w), classifier_bias(saved[3]);
    const at::Tensor logits_gradient = gradients[0].contiguous();
    classifier.product(logits_gradient.t(), dropped(hidden, c.dropouts.hidden));
    classifier_bias.row_sum(logits_gradient);
    at::Tensor g = at::mm(logits_gradient, w);
    c.dropouts.hidden.apply_(g);
    if (w_pooler.defined()) {
      g.mul_(c.relu ? hidden.gt(0).to(g.scalar_type()) : hidden.square().neg_().add_(1));
      pooler.product(g.t(), rows);
      pooler_bias.row_sum(g);
      g = at::mm(g, w_pooler);
    }
    c.dropouts.pooled.apply_(g);
    at::Tensor x_gradient;
    if (context->saved_data["x_wanted"].toBool()) {
      const auto shape = context->saved_data["shape"].toIntVector();
      if (c.mean) {
        x_gradient = g.unsqueeze(1).expand(shape).clone(at::MemoryFormat::Contiguous);
        x_gradient.mul_(shares(x_gradient, c.mask).to(g.scalar_type()));
      } else {
        x_gradient = at::zeros(shape, g.options());
        x_gradient.select(1, 0).copy_(g);
      }
    }
    return gradients_of({x_gradient}, {pooler, pooler_bias, classifier, classifier_bias}, 1);
  }
};

std::optional<at::Tensor> optional(const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; }

}  // namespace

at::Tensor embed(const EmbeddingIndices& indices, const EmbeddingWeights& w, const Dropout& dropout) {
  if (records(w.word, w.position, w.type, w.norm.gain, w.norm.offset)) {
    return Embed::apply(w.word, w.position, optional(w.type), w.norm.gain, w.norm.offset,
                        EmbedContext{indices, w.norm.epsilon, w.tied, dropout});
  }
  const at::Tensor sum = sum_of_rows(indices, w), y = normalise(sum, w.norm).rows.view(sum.sizes());
  dropout.apply_(y);
  return y;
}

std::array<at::Tensor, 3> attention_input(const at::Tensor& x, const Affine& q, const Affine& k, const Affine& v, int64_t heads) {
  if (!records(x, q.weight, q.bias, k.weight, k.bias, v.weight, v.bias)) return attention_input_forward(x, q, k, v, heads);
  const variable_list qkv = AttentionInput::apply(x, q.weight, q.bias, k.weight, k.bias, v.weight, v.bias, heads);
  return {qkv[0], qkv[1], qkv[2]};
}

at::Tensor attention(const std::array<at::Tensor, 3>& qkv, const at::Tensor& allowed, const Dropout& dropout) {
  const auto& [q, k, v] = qkv;
  if (!dropout.active()) {
    return scaled_attention(q, k, v, optional(allowed), false);
  }
  // GPT-2's is causal where nothing is said.
  const at::Tensor all =
      allowed.defined() ? allowed : at::ones({q.size(0), 1, 1, q.size(2)}, q.options().dtype(at::kBool).requires_grad(false));
  return gpt2::attention(qkv, all, dropout);
}

at::Tensor attention_output(const at::Tensor& residual, const at::Tensor& attended, const Affine& a, const Norm& norm,
                            const Dropout& dropout) {
  if (records(residual, attended, a.weight, a.bias, norm.gain, norm.offset)) {
    return AttentionOutput::apply(residual, attended, a.weight, a.bias, norm.gain, norm.offset, NormContext{norm.epsilon, dropout});
  }
  return normalise(add_affine(residual, rows_of_heads(attended), a.weight.t(), a.bias, dropout), norm).rows.view(residual.sizes());
}

at::Tensor mlp(const at::Tensor& x, const Affine& up, const Affine& down, const Norm& norm, const Dropout& dropout) {
  if (records(x, up.weight, up.bias, down.weight, down.bias, norm.gain, norm.offset)) {
    return Mlp::apply(x, up.weight, up.bias, down.weight, down.bias, norm.gain, norm.offset, NormContext{norm.epsilon, dropout});
  }
  const auto sum = [&] {
    at::Tensor inner = affine(rows_of(x), up);
    return add_affine(x, at::gelu_(inner), down.weight.t(), down.bias, dropout);
  };
  return normalise(sum(), norm).rows.view(x.sizes());
}

at::Tensor pool(const at::Tensor& x, const at::Tensor& mask, bool mean) {
  if (!mean) return x.select(1, 0).contiguous();
  // A product for each sample: [1, T] by [T, width].
  return shares(x, mask).to(x.scalar_type()).transpose(1, 2).matmul(x).squeeze(1);
}

at::Tensor classify(const at::Tensor& x, const at::Tensor& mask, const ClassifierWeights& w, const ClassifierDropouts& dropouts) {
  if (records(x, w.pooler.weight, w.pooler.bias, w.classifier.weight, w.classifier.bias)) {
    return Classify::apply(x, optional(w.pooler.weight), optional(w.pooler.bias), w.classifier.weight, w.classifier.bias,
                           ClassifyContext{mask, w.mean, w.relu, dropouts});
  }
  const at::Tensor rows = dropped(pool(x, mask, w.mean), dropouts.pooled);
  return affine(dropped(hidden_of(rows, w.pooler, w.relu), dropouts.hidden), w.classifier);
}

}  // namespace zerostep::bert
