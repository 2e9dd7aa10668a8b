#include "models/gpt2/functions.h"

#include <ATen/ops/_softmax_backward_data.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>

#include "models/affine.h"
#include "models/autograd_node.h"
#include "models/fused_attention.h"
#include "models/gelu.h"
#include "models/parameter_gradient.h"
#include "models/product.h"

namespace zerostep::gpt2 {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct EmbedContext {
  at::Tensor tokens, positions;
  bool tied;
  Dropout dropout;
};

at::Tensor embed_forward(const at::Tensor& wte, const at::Tensor& wpe, const EmbedContext& c) {
  at::Tensor y = at::embedding(wte, c.tokens);
  y.add_(c.positions.defined() ? at::embedding(wpe, c.positions) : wpe.narrow(0, 0, c.tokens.size(1)));
  c.dropout.apply_(y);
  return y;
}

struct Embed : Function<Embed> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& wte, const at::Tensor& wpe, const EmbedContext& c) {
    // The backward reads no weight: what it needs of them is where their gradients go.
    context->save_for_backward({wte, wpe});
    keep(context, c);
    return embed_forward(wte, wpe, c);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto c = kept<EmbedContext>(context);
    const at::Tensor g = dropped(gradients[0].contiguous(), c.dropout);
    ParameterGradient wte(saved[0], c.tied), wpe(saved[1]);
    wte.scattered_rows(c.tokens.flatten(), rows_of(g));
    if (c.positions.defined()) {
      wpe.scattered_rows(c.positions.flatten(), rows_of(g));
    } else {
      wpe.leading_rows(g);
    }
    return gradients_of({}, {wte, wpe}, 1);
  }
};

std::array<at::Tensor, 3> attention_input_forward(const at::Tensor& x, const Norm& norm, const at::Tensor& weight, const at::Tensor& bias,
                                                  int64_t heads) {
  const int64_t width = x.size(2);
  const at::Tensor qkv =
      affine(normalise(x, norm).rows, weight, bias).view({x.size(0), x.size(1), 3, heads, width / heads}).permute({2, 0, 3, 1, 4});
  return {qkv.select(0, 0), qkv.select(0, 1), qkv.select(0, 2)};
}

struct AttentionInput : Function<AttentionInput> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& offset,
                               const at::Tensor& weight, const at::Tensor& bias, double epsilon, int64_t heads) {
    context->save_for_backward({x, gain, offset, weight, bias});
    keep(context, epsilon);
    const auto [q, k, v] = attention_input_forward(x, {gain, offset, epsilon}, weight, bias, heads);
    return {q, k, v};
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[3];
    const Norm norm{saved[1], saved[2], kept<double>(context)};
    const int64_t width = x.size(2);
    ParameterGradient gain(norm.gain), offset(norm.offset), weight(w), bias(saved[4]);
    Normalised normalised = normalise(x, norm);
    at::Tensor g;
    for (int64_t i = 0; i < 3; ++i) {
      const at::Tensor part = gradients[i].transpose(1, 2).reshape({-1, width});
      weight.product(normalised.rows.t(), part, i * width);
      bias.row_sum(part, i * width);
      const at::Tensor columns = w.narrow(1, i * width, width).t();
      g = i == 0 ? at::mm(part, columns) : g.addmm_(part, columns);
    }
    normalised.rows.reset();
    const at::Tensor x_gradient = normalise_backward(g, x, normalised, norm, gain, offset, x.requires_grad());
    return gradients_of({x_gradient}, {gain, offset, weight, bias}, 2);
  }
};

struct AttentionOutput : Function<AttentionOutput> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& residual, const at::Tensor& attended, const at::Tensor& weight,
                            const at::Tensor& bias, const Dropout& dropout) {
    context->save_for_backward({attended, weight, bias});
    keep(context, dropout);
    return add_affine(residual, rows_of_heads(attended), weight, bias, dropout);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &attended = saved[0], &w = saved[1];
    const at::Tensor g = rows_of(dropped(gradients[0], kept<Dropout>(context)));
    ParameterGradient weight(w), bias(saved[2]);
    weight.product(rows_of_heads(attended).t(), g);
    bias.row_sum(g);
    at::Tensor attended_gradient;
    if (attended.requires_grad()) {
      attended_gradient = at::mm(g, w.t()).view({attended.size(0), attended.size(2), attended.size(1), attended.size(3)}).transpose(1, 2);
    }
    return gradients_of({gradients[0], attended_gradient}, {weight, bias}, 1);
  }
};

struct Mlp : Function<Mlp> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& offset,
                            const at::Tensor& up, const at::Tensor& up_bias, const at::Tensor& down, const at::Tensor& down_bias,
                            double epsilon, const Dropout& dropout) {
    const at::Tensor inner = affine(normalise(x, {gain, offset, epsilon}).rows, up, up_bias);
    context->save_for_backward({x, gain, offset, up, up_bias, down, down_bias, inner});
    keep(context, std::pair(epsilon, dropout));
    return add_affine(x, tanh_gelu(inner), down, down_bias, dropout);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto [epsilon, dropout] = kept<std::pair<double, Dropout>>(context);
    const at::Tensor &x = saved[0], &w_up = saved[3], &w_down = saved[5], &inner = saved[7];
    const Norm norm{saved[1], saved[2], epsilon};
    ParameterGradient gain(norm.gain), offset(norm.offset), up(w_up), up_bias(saved[4]), down(w_down), down_bias(saved[6]);
    at::Tensor g_inner;
    {
      const at::Tensor g = rows_of(dropped(gradients[0], dropout));
      g_inner = at::mm(g, w_down.t());
      // `inner` is this node's own: from here on it holds the activations.
      tanh_gelu_backward_(inner, g_inner);
      down.product(inner.t(), g);
      down_bias.row_sum(g);
    }
    Normalised normalised = normalise(x, norm);
    up.product(normalised.rows.t(), g_inner);
    up_bias.row_sum(g_inner);
    const at::Tensor g_rows = at::mm_out(normalised.rows, g_inner, w_up.t());
    g_inner.reset();
    at::Tensor x_gradient = normalise_backward(g_rows, x, normalised, norm, gain, offset, x.requires_grad());
    if (x_gradient.defined()) x_gradient.add_(gradients[0]);
    return gradients_of({x_gradient}, {gain, offset, up, up_bias, down, down_bias}, 2);
  }
};

struct Logits : Function<Logits> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& offset,
                            const at::Tensor& weight, double epsilon) {
    context->save_for_backward({x, gain, offset, weight});
    keep(context, epsilon);
    return product(normalise(x, {gain, offset, epsilon}).rows, weight.t()).view({x.size(0), x.size(1), weight.size(0)});
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[3];
    const Norm norm{saved[1], saved[2], kept<double>(context)};
    ParameterGradient gain(norm.gain), offset(norm.offset), weight(w);
    const at::Tensor g = rows_of(gradients[0]);
    Normalised normalised = normalise(x, norm);
    weight.product(g.t(), normalised.rows);
    const at::Tensor g_rows = at::mm_out(normalised.rows, g, w);
    const at::Tensor x_gradient = normalise_backward(g_rows, x, normalised, norm, gain, offset, x.requires_grad());
    return gradients_of({x_gradient}, {gain, offset, weight}, 1);
  }
};

struct FinalNorm : Function<FinalNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& offset,
                            double epsilon) {
    const Normalised normalised = normalise(x, {gain, offset, epsilon});
    context->save_for_backward({x, gain, offset, normalised.mean, normalised.rstd});
    keep(context, epsilon);
    return normalised.rows.view(x.sizes());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const Norm norm{saved[1], saved[2], kept<double>(context)};
    ParameterGradient gain(norm.gain), offset(norm.offset);
    const at::Tensor x_gradient =
        normalise_backward(gradients[0], saved[0], {{}, saved[3], saved[4]}, norm, gain, offset, saved[0].requires_grad());
    return gradients_of({x_gradient}, {gain, offset}, 1);
  }
};

// One sample's softmax(q k' / sqrt(d)): q, k [heads, T, d] -> [heads, T, T].
at::Tensor probabilities(const at::Tensor& q, const at::Tensor& k, const at::Tensor& forbidden) {
  at::Tensor scores = at::bmm(q, k.transpose(1, 2)).mul_(1.0 / std::sqrt(static_cast<double>(q.size(2))));
  scores.masked_fill_(forbidden, -std::numeric_limits<double>::infinity());
  return at::softmax(scores, -1);
}

at::Tensor forbidden_pairs(const at::Tensor& allowed, int64_t sample, const at::Tensor& q) {
  if (allowed.defined()) return allowed[sample].logical_not();
  return at::ones({q.size(2), q.size(2)}, q.options().dtype(at::kBool).requires_grad(false)).triu_(1);
}

// Attention with dropout on the probabilities, sample by sample, so that beside the saved probabilities one sample's products are alive at
// a time.
struct DroppedAttention : Function<DroppedAttention> {
  static at::Tensor run(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& allowed, const Dropout& dropout,
                        at::Tensor* saved_probabilities) {
    const int64_t samples = q.size(0), heads = q.size(1), length = q.size(2), width = q.size(3);
    at::Tensor y = at::empty({samples, length, heads, width}, q.options().requires_grad(false));
    if (saved_probabilities != nullptr) *saved_probabilities = at::empty({samples, heads, length, length}, y.options());
    for (int64_t b = 0; b < samples; ++b) {
      at::Tensor p = probabilities(q[b], k[b], forbidden_pairs(allowed, b, q));
      if (saved_probabilities != nullptr) saved_probabilities->select(0, b).copy_(p);
      dropout.apply_to_sample_(p, b);
      y.select(0, b).transpose(0, 1).copy_(at::bmm(p, v[b]));
    }
    return y.transpose(1, 2);
  }
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const std::optional<at::Tensor>& allowed, const Dropout& dropout) {
    at::Tensor p;
    at::Tensor y = run(q, k, v, allowed.value_or(at::Tensor()), dropout, &p);
    context->save_for_backward({q, k, v, p});
    keep(context, dropout);
    return y;
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto dropout = kept<Dropout>(context);
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &g = gradients[0];
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(3)));
    const auto like_input = [&] { return at::empty({q.size(0), q.size(2), q.size(1), q.size(3)}, g.options()).transpose(1, 2); };
    at::Tensor gq = like_input(), gk = like_input(), gv = like_input();
    for (int64_t b = 0; b < q.size(0); ++b) {
      const at::Tensor p = saved[3][b];
      {
        at::Tensor dropped_p = p.clone();
        dropout.apply_to_sample_(dropped_p, b);
        gv[b].copy_(at::bmm(dropped_p.transpose(1, 2), g[b]));
      }
      at::Tensor gp = at::bmm(g[b], v[b].transpose(1, 2));
      dropout.apply_to_sample_(gp, b);
      const at::Tensor gs = at::_softmax_backward_data(gp, p, -1, p.scalar_type()).mul_(scale);
      gp.reset();
      gq[b].copy_(at::bmm(gs, k[b]));
      gk[b].copy_(at::bmm(gs.transpose(1, 2), q[b]));
    }
    return {gq, gk, gv, {}, {}};
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& positions, const at::Tensor& wte, const at::Tensor& wpe, bool tied,
                 const Dropout& dropout) {
  const EmbedContext context{tokens, positions, tied, dropout};
  if (!records(wte, wpe)) return embed_forward(wte, wpe, context);
  return Embed::apply(wte, wpe, context);
}

std::array<at::Tensor, 3> attention_input(const at::Tensor& x, const Norm& norm, const at::Tensor& weight, const at::Tensor& bias,
                                          int64_t heads) {
  if (!records(x, norm.gain, norm.offset, weight, bias)) return attention_input_forward(x, norm, weight, bias, heads);
  const variable_list qkv = AttentionInput::apply(x, norm.gain, norm.offset, weight, bias, norm.epsilon, heads);
  return {qkv[0], qkv[1], qkv[2]};
}

at::Tensor attention(const std::array<at::Tensor, 3>& qkv, const at::Tensor& allowed, const Dropout& dropout) {
  const auto& [q, k, v] = qkv;
  if (dropout.active()) {
    if (!records(q, k, v)) return DroppedAttention::run(q, k, v, allowed, dropout, nullptr);
    return DroppedAttention::apply(q, k, v, allowed.defined() ? std::optional(allowed) : std::nullopt, dropout);
  }
  if (allowed.defined()) return scaled_attention(q, k, v, allowed, false);
  return scaled_attention(q, k, v, {}, true);
}

at::Tensor attention_output(const at::Tensor& residual, const at::Tensor& attended, const at::Tensor& weight, const at::Tensor& bias,
                            const Dropout& dropout) {
  if (!records(residual, attended, weight, bias)) return add_affine(residual, rows_of_heads(attended), weight, bias, dropout);
  return AttentionOutput::apply(residual, attended, weight, bias, dropout);
}

at::Tensor mlp(const at::Tensor& x, const Norm& norm, const MlpWeights& w, const Dropout& dropout) {
  if (!records(x, norm.gain, norm.offset, w.up, w.up_bias, w.down, w.down_bias)) {
    const at::Tensor inner = affine(normalise(x, norm).rows, w.up, w.up_bias);
    tanh_gelu_(inner);
    return add_affine(x, inner, w.down, w.down_bias, dropout);
  }
  return Mlp::apply(x, norm.gain, norm.offset, w.up, w.up_bias, w.down, w.down_bias, norm.epsilon, dropout);
}

at::Tensor logits(const at::Tensor& x, const Norm& norm, const at::Tensor& weight) {
  if (!records(x, norm.gain, norm.offset, weight)) {
    return product(normalise(x, norm).rows, weight.t()).view({x.size(0), x.size(1), weight.size(0)});
  }
  return Logits::apply(x, norm.gain, norm.offset, weight, norm.epsilon);
}

at::Tensor final_norm(const at::Tensor& x, const Norm& norm) {
  if (!records(x, norm.gain, norm.offset)) return normalise(x, norm).rows.view(x.sizes());
  return FinalNorm::apply(x, norm.gain, norm.offset, norm.epsilon);
}

}  // namespace zerostep::gpt2
