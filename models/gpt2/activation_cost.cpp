#include "models/attention_cost.h"
#include "models/gpt2/units.h"
#include "models/score_head.h"

// The allocations of units.cpp and functions.cpp told in their order. Tensors of a few bytes (casts of biases, scalars) are left out.
namespace zerostep::gpt2 {

namespace {

struct Sizes : ActivationSizes {
  explicit Sizes(const CostShape& s)
      : ActivationSizes(s, s.options.n_embd, s.options.inner_width()),
        attention(s, s.options.n_head, s.options.n_embd / s.options.n_head, false, drops(s, s.options.attn_pdrop)) {}
  AttentionCost attention;
};

void block_forward(const Sizes& z, bool graph, MemoryTimeline& m) {
  m.take(z.hidden + z.statistics()).take(3 * z.hidden).product(z.product).give(z.hidden + z.statistics());  // queries, keys, values
  z.attention.forward(graph, m);
  if (!graph || z.attention.keeps_copies()) m.give(3 * z.hidden);
  m.take(z.attention.turned()).take(z.hidden).product(z.product).give(z.attention.turned());  // after attention
  if (!graph) m.give(z.hidden);
  m.take(z.hidden + z.statistics()).take(z.inner_hidden).product(z.product).give(z.hidden + z.statistics());
  graph ? m.take(z.inner_hidden) : m.write(z.inner_hidden);  // GELU keeps its input
  m.take(z.hidden).product(z.product).give(z.inner_hidden);
  if (!graph) m.give(z.hidden);
}

// Beyond input, saved and output; starts with the gradient that comes in.
MemoryTimeline block_backward(const CostShape& s, const Sizes& z, bool accumulating) {
  const int64_t dropped = drops(s, s.options.resid_pdrop) ? z.hidden : 0;
  MemoryTimeline m(z.hidden);
  // MLP: GELU's backward overwrites its input and its gradient.
  m.take(dropped).take(z.inner_hidden).product().write(2 * z.inner_hidden);
  m.pass(gradient_temporary(s.compute_type, z.inner, z.width, accumulating)).write(z.hidden).give(dropped);
  m.take(z.hidden + z.statistics()).pass(gradient_temporary(s.compute_type, z.width, z.inner, accumulating)).write(z.inner_hidden);
  m.give(z.inner_hidden);
  m.take(z.hidden).pass(z.norm_gradients()).give(z.hidden + z.statistics()).write(z.hidden);
  m.give(z.inner_hidden + z.hidden);  // saved: the MLP's inside and input
  // Projection.
  const int64_t square = z.attention.turned() + gradient_temporary(s.compute_type, z.width, z.width, accumulating);
  m.take(dropped).pass(square).write(z.hidden);
  m.take(z.hidden).product().give(dropped);
  // Attention, then its saved tensors go.
  z.attention.last_backward(m);
  // Queries, keys, values; the sum with the gradient that passed by.
  m.take(z.hidden + z.statistics()).pass(square).write(3 * z.hidden);
  m.take(z.hidden).product().pass(square);
  m.give(z.hidden).take(z.hidden).pass(z.norm_gradients()).write(z.hidden);
  return m;
}

ActivationCost embedding_cost(const CostShape& s) {
  const Sizes z(s);
  ActivationCost cost;
  cost.output_bytes = z.hidden;
  cost.backward_transient_bytes = z.hidden * (drops(s, s.options.embd_pdrop) ? 2 : 1) + z.lookup_gradients(true);
  cost.accumulating_backward_transient_bytes = cost.backward_transient_bytes;
  cost.forward_work = {2 * z.hidden, 2};
  cost.backward_work = {2 * z.hidden, 3};  // the rows of tokens and of positions
  return cost;
}

ActivationCost block_cost(const CostShape& s) {
  const Sizes z(s);
  ActivationCost cost = zerostep::layer_cost(
      z, [&](const Sizes& sizes, bool graph, MemoryTimeline& m) { block_forward(sizes, graph, m); },
      [&](bool accumulating) { return block_backward(s, z, accumulating); });
  const auto n = static_cast<double>(z.tokens), c = static_cast<double>(z.width);
  cost.attention_heads = s.batch * s.options.n_head;
  cost.attention_flops = 2 * n * c * static_cast<double>(s.sequence + 1);
  cost.forward_flops = 2 * n * c * (4 * c + 2 * static_cast<double>(z.inner)) + cost.attention_flops;
  return cost;
}

ActivationCost head_cost(const CostShape& s) {
  const Sizes z(s);
  const int64_t outputs = s.options.num_labels > 0 ? s.options.num_labels : s.options.vocab_size;
  const int64_t logits = z.element * z.tokens * outputs;
  ActivationCost cost;
  cost.output_bytes = logits;
  cost.forward_transient_bytes = cost.inference_transient_bytes = cost.inference_product_bytes = z.hidden + z.statistics();
  cost.forward_work = {z.hidden + z.statistics(), 2};
  set_backward(cost, [&](bool accumulating) {
    MemoryTimeline m(logits);
    m.take(z.hidden + z.statistics()).pass(gradient_temporary(s.compute_type, outputs, z.width, accumulating));
    m.take(z.hidden).pass(z.norm_gradients());
    return m;
  });
  cost.forward_flops = 2.0 * static_cast<double>(z.tokens) * static_cast<double>(z.width) * static_cast<double>(outputs);
  return cost;
}

}  // namespace

ActivationCost final_norm_cost(const CostShape& s) {
  const Sizes z(s);
  ActivationCost cost;
  cost.output_bytes = z.hidden;
  cost.saved_bytes = cost.inference_transient_bytes = z.statistics();
  cost.forward_work = {z.hidden + z.statistics(), 1};
  set_backward(cost, [&](bool) {
    MemoryTimeline m(z.hidden);
    m.take(z.hidden).pass(z.norm_gradients());
    return m;
  });
  return cost;
}

ActivationCost unit_cost(const CostShape& shape, int index) {
  if (index == 0) return embedding_cost(shape);
  if (index > shape.options.n_layer) {
    if (shape.options.num_labels == 0) return head_cost(shape);
    return score_head_cost(shape, shape.options.n_embd, [&](const ActivationShape& rows) { return head_cost({rows, shape.options}); });
  }
  return block_cost(shape);
}

}  // namespace zerostep::gpt2
