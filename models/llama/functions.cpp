#include "models/llama/functions.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>

#include "models/affine.h"
#include "models/attention.h"
#include "models/autograd_node.h"
#include "models/parameter_gradient.h"
#include "models/product.h"
#include "models/rms_norm.h"
#include "models/swiglu.h"

namespace zerostep::llama {

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Rows [B T, heads * width] as [B, heads, T, width].
at::Tensor heads_of(const at::Tensor& rows, const at::Tensor& x, int64_t width) {
  return rows.view({x.size(0), x.size(1), -1, width}).transpose(1, 2);
}

// The gradient of x through its norm, over that of the norm's rows, which it overwrites; x's own is added. That of the gain goes where it
// belongs.
at::Tensor normalise_backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& gain, double epsilon,
                              ParameterGradient& gain_target, const at::Tensor& added) {
  at::Tensor gain_gradient;
  if (gain_target.wanted()) gain_gradient = at::empty({x.size(-1)}, gradient.options().dtype(at::kFloat));
  rms_norm_backward_(gradient, rows_of(x), gain, epsilon, gain_gradient);
  gain_target.value(gain_gradient);
  if (!x.requires_grad()) return {};
  const at::Tensor result = gradient.view(x.sizes());
  if (added.defined()) result.add_(added);
  return result;
}

std::optional<at::Tensor> optional(const at::Tensor& t) { return t.defined() ? std::optional(t) : std::nullopt; }

struct Embed : Function<Embed> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& weight, const at::Tensor& tokens, bool tied) {
    // The backward reads no weight: what it needs of it is where its gradient goes.
    context->save_for_backward({weight, tokens});
    keep(context, tied);
    return at::embedding(weight, tokens);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    ParameterGradient weight(saved[0], kept<bool>(context));
    weight.scattered_rows(saved[1].flatten(), rows_of(gradients[0].contiguous()));
    return gradients_of({}, {weight}, 2);
  }
};

struct AttentionContext {
  AttentionShape shape;
  Rotation rotation;
  at::Tensor allowed;
  std::vector<at::Tensor> logsumexp;
};

AttentionInput attention_input(const at::Tensor& x, const AttentionWeights& w, const AttentionContext& c) {
  const at::Tensor rows = rms_norm(rows_of(x), w.gain, c.shape.epsilon);
  const auto times = [&](const Affine& a) { return affine(rows, a.weight.t(), a.bias); };
  at::Tensor q = times(w.q), k = times(w.k), v = times(w.v);
  rotate_(q, c.rotation);
  rotate_(k, c.rotation);
  const auto heads = [&](const at::Tensor& t) { return heads_of(t, x, c.shape.head_width); };
  return {heads(q), heads(k), heads(v), c.allowed, true};
}

struct Attention : Function<Attention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& q,
                            const std::optional<at::Tensor>& q_bias, const at::Tensor& k, const std::optional<at::Tensor>& k_bias,
                            const at::Tensor& v, const std::optional<at::Tensor>& v_bias, const at::Tensor& output,
                            const std::optional<at::Tensor>& output_bias, AttentionContext c) {
    const auto tensor = [](const std::optional<at::Tensor>& t) { return t.value_or(at::Tensor()); };
    const AttentionWeights w{gain, {q, tensor(q_bias)}, {k, tensor(k_bias)}, {v, tensor(v_bias)}, {output, tensor(output_bias)}};
    const AttentionInput input = attention_input(x, w, c);
    const Attended attended = attend(input);
    c.logsumexp = attended.logsumexp;
    context->save_for_backward(
        {x, gain, q, w.q.bias, k, w.k.bias, v, w.v.bias, output, w.output.bias, input.q, input.k, input.v, attended.output});
    keep(context, std::move(c));
    return add_affine(x, rows_of_heads(attended.output), output.t(), w.output.bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto c = kept<AttentionContext>(context);
    const at::Tensor &x = saved[0], &w_q = saved[2], &w_k = saved[4], &w_v = saved[6], &w_output = saved[8];
    ParameterGradient gain(saved[1]), q(w_q), q_bias(saved[3]), k(w_k), k_bias(saved[5]), v(w_v), v_bias(saved[7]), output(w_output),
        output_bias(saved[9]);
    at::Tensor q_gradient, k_gradient, v_gradient;
    {
      const at::Tensor g = rows_of(gradients[0]);
      if (output.wanted()) output.product(g.t(), rows_of_heads(saved[13]));
      output_bias.row_sum(g);
      const at::Tensor attended_gradient = heads_of(at::mm(g, w_output), x, c.shape.head_width);
      const auto head_gradients =
          attend_backward(attended_gradient, {saved[10], saved[11], saved[12], c.allowed, true}, {saved[13], c.logsumexp});
      q_gradient = rows_of_heads(head_gradients[0]), k_gradient = rows_of_heads(head_gradients[1]),
      v_gradient = rows_of_heads(head_gradients[2]);
    }
    rotate_(q_gradient, c.rotation, true);
    rotate_(k_gradient, c.rotation, true);
    {
      const at::Tensor rows = rms_norm(rows_of(x), saved[1], c.shape.epsilon);
      q.product(q_gradient.t(), rows);
      k.product(k_gradient.t(), rows);
      v.product(v_gradient.t(), rows);
    }
    q_bias.row_sum(q_gradient);
    k_bias.row_sum(k_gradient);
    v_bias.row_sum(v_gradient);
    const at::Tensor g_rows = at::mm(q_gradient, w_q).addmm_(k_gradient, w_k).addmm_(v_gradient, w_v);
    const at::Tensor x_gradient = normalise_backward(g_rows, x, saved[1], c.shape.epsilon, gain, gradients[0]);
    return gradients_of({x_gradient}, {gain, q, q_bias, k, k_bias, v, v_bias, output, output_bias}, 1);
  }
};

struct Mlp : Function<Mlp> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& gate,
                            const at::Tensor& up, const at::Tensor& down, double epsilon) {
    at::Tensor rows = rms_norm(rows_of(x), gain, epsilon);
    const at::Tensor gated = product(rows, gate.t()), inner = product(rows, up.t());
    rows.reset();
    context->save_for_backward({x, gain, gate, up, down, gated, inner});
    keep(context, epsilon);
    return add_affine(x, swiglu(gated, inner), down.t(), {});
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto epsilon = kept<double>(context);
    const at::Tensor &x = saved[0], &w_gate = saved[2], &w_up = saved[3], &w_down = saved[4], &gated = saved[5], &up_gradient = saved[6];
    ParameterGradient gain(saved[1]), gate(w_gate), up(w_up), down(w_down);
    const at::Tensor g = rows_of(gradients[0]);
    const at::Tensor gate_gradient = at::mm(g, w_down);
    // `gated` and `up_gradient` are this node's own: from here on they hold the activations and the gradient that goes up.
    swiglu_backward_(gated, up_gradient, gate_gradient);
    down.product(g.t(), gated);
    at::Tensor rows = rms_norm(rows_of(x), saved[1], epsilon);
    gate.product(gate_gradient.t(), rows);
    up.product(up_gradient.t(), rows);
    at::mm_out(rows, gate_gradient, w_gate).addmm_(up_gradient, w_up);
    const at::Tensor x_gradient = normalise_backward(rows, x, saved[1], epsilon, gain, gradients[0]);
    return gradients_of({x_gradient}, {gain, gate, up, down}, 1);
  }
};

at::Tensor logits_forward(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& weight, double epsilon) {
  return product(rms_norm(rows_of(x), gain, epsilon), weight.t()).view({x.size(0), x.size(1), weight.size(0)});
}

struct Logits : Function<Logits> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, const at::Tensor& weight,
                            double epsilon) {
    context->save_for_backward({x, gain, weight});
    keep(context, epsilon);
    return logits_forward(x, gain, weight, epsilon);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto epsilon = kept<double>(context);
    const at::Tensor &x = saved[0], &w = saved[2];
    ParameterGradient gain(saved[1]), weight(w);
    const at::Tensor g = rows_of(gradients[0]);
    at::Tensor rows = rms_norm(rows_of(x), saved[1], epsilon);
    weight.product(g.t(), rows);
    at::mm_out(rows, g, w);
    const at::Tensor x_gradient = normalise_backward(rows, x, saved[1], epsilon, gain, {});
    return gradients_of({x_gradient}, {gain, weight}, 1);
  }
};

struct FinalNorm : Function<FinalNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain, double epsilon) {
    context->save_for_backward({x, gain});
    keep(context, epsilon);
    return rms_norm(rows_of(x), gain, epsilon).view(x.sizes());
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    ParameterGradient gain(saved[1]);
    const at::Tensor rows = rows_of(gradients[0]).clone();  // which becomes the gradient of x
    const at::Tensor x_gradient = normalise_backward(rows, saved[0], saved[1], kept<double>(context), gain, {});
    return gradients_of({x_gradient}, {gain}, 1);
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& weight, bool tied) {
  if (!records(weight)) return at::embedding(weight, tokens);
  return Embed::apply(weight, tokens, tied);
}

at::Tensor attention(const at::Tensor& x, const AttentionWeights& w, const AttentionShape& shape, const Rotation& rotation,
                     const at::Tensor& allowed) {
  AttentionContext c{shape, rotation, allowed, {}};
  if (!records(x, w.gain, w.q.weight, w.q.bias, w.k.weight, w.k.bias, w.v.weight, w.v.bias, w.output.weight, w.output.bias)) {
    // Queries, keys and values are gone before the projection.
    const auto attended = [&] { return attend(attention_input(x, w, c)).output; };
    return add_affine(x, rows_of_heads(attended()), w.output.weight.t(), w.output.bias);
  }
  return Attention::apply(x, w.gain, w.q.weight, optional(w.q.bias), w.k.weight, optional(w.k.bias), w.v.weight, optional(w.v.bias),
                          w.output.weight, optional(w.output.bias), c);
}

at::Tensor mlp(const at::Tensor& x, const MlpWeights& w, double epsilon) {
  if (records(x, w.gain, w.gate, w.up, w.down)) return Mlp::apply(x, w.gain, w.gate, w.up, w.down, epsilon);
  const auto inner = [&] {
    const at::Tensor rows = rms_norm(rows_of(x), w.gain, epsilon);
    at::Tensor gated = product(rows, w.gate.t());
    swiglu_(gated, product(rows, w.up.t()));
    return gated;
  };
  return add_affine(x, inner(), w.down.t(), {});
}

at::Tensor logits(const at::Tensor& x, const at::Tensor& gain, const at::Tensor& weight, double epsilon) {
  if (!records(x, gain, weight)) return logits_forward(x, gain, weight, epsilon);
  return Logits::apply(x, gain, weight, epsilon);
}

at::Tensor final_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon) {
  if (!records(x, gain)) return rms_norm(rows_of(x), gain, epsilon).view(x.sizes());
  return FinalNorm::apply(x, gain, epsilon);
}

}  // namespace zerostep::llama
