#include "models/attention_cost.h"
#include "models/bert/units.h"

// The allocations of units.cpp and functions.cpp told in their order. Tensors of a few bytes (casts of biases, scalars) are left out.
namespace zerostep::bert {

namespace {

struct Sizes : ActivationSizes {
  explicit Sizes(const CostShape& s)
      : ActivationSizes(s, s.options.hidden_size, s.options.intermediate_size),
        attention(s, s.options.num_attention_heads, s.options.hidden_size / s.options.num_attention_heads, true,
                  drops(s, s.options.attention_probs_dropout_prob)) {}
  AttentionCost attention;
};

void layer_forward(const Sizes& z, bool graph, MemoryTimeline& m) {
  m.take(3 * z.hidden).product(z.product);  // queries, keys, values
  z.attention.forward(graph, m);
  if (!graph || z.attention.keeps_copies()) m.give(3 * z.hidden);
  m.take(z.attention.turned()).take(z.hidden).product(z.product).give(z.attention.turned());
  m.take(z.hidden + z.statistics());  // of the sum
  if (!graph) m.give(2 * z.hidden + z.statistics());
  m.take(z.inner_hidden).product(z.product);
  graph ? m.take(z.inner_hidden) : m.write(z.inner_hidden);  // GELU keeps its input
  m.take(z.hidden).product(z.product).give(z.inner_hidden);
  m.take(z.hidden + z.statistics());
  if (!graph) m.give(2 * z.hidden + z.statistics());
}

// Beyond input, saved and output; starts with the gradient that comes in.
MemoryTimeline layer_backward(const CostShape& s, const Sizes& z, bool accumulating) {
  const int64_t dropped = drops(s, s.options.hidden_dropout_prob) ? z.hidden : 0;
  const int64_t attention_dropped = drops(s, s.options.attention_output_dropout()) ? z.hidden : 0;
  MemoryTimeline m(z.hidden);
  // MLP; its sum's gradient becomes that of its input.
  m.take(z.hidden).pass(z.norm_gradients());
  m.take(dropped).take(z.inner_hidden).product().write(z.inner_hidden);
  m.take(z.inner_hidden).pass(gradient_temporary(s.compute_type, z.width, z.inner, accumulating)).give(z.inner_hidden).give(dropped);
  m.pass(gradient_temporary(s.compute_type, z.inner, z.width, accumulating)).give(z.inner_hidden);
  m.give(z.inner_hidden + 2 * z.hidden + z.statistics());  // saved: the MLP's inside, its sum and its input
  // Projection.
  const int64_t square = z.attention.turned() + gradient_temporary(s.compute_type, z.width, z.width, accumulating);
  m.take(z.hidden).pass(z.norm_gradients()).take(attention_dropped).pass(square);
  m.take(z.hidden).product().give(attention_dropped);
  m.give(2 * z.hidden + z.statistics());  // the gradient of the norm's output; saved: the sum
  // Attention, then its saved tensors go.
  z.attention.last_backward(m);
  // Queries, keys, values; the sum with the gradient that passed by.
  m.pass(square).take(z.hidden).product().pass(z.hidden);
  return m;
}

ActivationCost embedding_cost(const CostShape& s) {
  const Sizes z(s);
  ActivationCost cost;
  cost.output_bytes = z.hidden;
  // RoBERTa's positions, counted from the tokens.
  const int64_t positions = s.options.kind == BertOptions::Kind::Roberta ? 8 * z.tokens : 0;
  cost.saved_bytes = z.hidden + z.statistics() + positions;
  cost.inference_transient_bytes = z.hidden + z.statistics() + positions;
  const int64_t dropped = drops(s, s.options.hidden_dropout_prob) ? z.hidden : 0;
  cost.backward_transient_bytes =
      2 * z.hidden + std::max(dropped + z.norm_gradients(), (s.options.has_types() ? 8 * z.tokens : 0) + z.lookup_gradients(true));
  cost.accumulating_backward_transient_bytes = cost.backward_transient_bytes;
  cost.forward_work = {3 * z.hidden + z.statistics(), 4};
  cost.backward_work = {3 * z.hidden + dropped, 5};
  return cost;
}

ActivationCost layer_cost(const CostShape& s) {
  const Sizes z(s);
  ActivationCost cost = zerostep::layer_cost(
      z, [&](const Sizes& sizes, bool graph, MemoryTimeline& m) { layer_forward(sizes, graph, m); },
      [&](bool accumulating) { return layer_backward(s, z, accumulating); });
  const auto n = static_cast<double>(z.tokens), c = static_cast<double>(z.width);
  cost.attention_heads = s.batch * s.options.num_attention_heads;
  cost.attention_flops = 4 * n * c * static_cast<double>(s.sequence);
  cost.forward_flops = 2 * n * c * (4 * c + 2 * static_cast<double>(z.inner)) + cost.attention_flops;
  return cost;
}

ActivationCost head_cost(const CostShape& s) {
  const Sizes z(s);
  const bool mean = s.options.pooling == BertOptions::Pooling::Mean;
  const int64_t rows = z.element * s.batch * z.width, logits = z.element * s.batch * s.options.num_labels;
  const int64_t dropped = drops(s, s.options.head_dropout()) ? rows : 0;
  const int64_t shares = mean ? (4 + z.element) * z.tokens : 0;
  const int64_t hidden = mean ? 0 : rows;  // what the dense layer gives
  const int64_t pooled_dropped = drops(s, s.options.pooled_dropout()) ? rows : 0;
  ActivationCost cost;
  cost.output_bytes = logits;
  cost.saved_bytes = rows + hidden;
  cost.forward_transient_bytes = std::max(dropped, shares);
  cost.inference_product_bytes = rows + hidden + dropped;
  cost.inference_transient_bytes = std::max(cost.inference_product_bytes, rows + shares);
  cost.forward_work = {rows + 2 * hidden + dropped + pooled_dropped + shares, 4};
  set_backward(cost, [&](bool accumulating) {
    MemoryTimeline m(logits);
    m.pass(dropped + gradient_temporary(s.compute_type, s.options.num_labels, z.width, accumulating));
    m.take(rows);
    if (!mean) m.pass(2 * rows).pass(gradient_temporary(s.compute_type, z.width, z.width, accumulating)).take(rows).give(rows);
    m.take(z.hidden).pass(shares);
    return m;
  });
  const double width = static_cast<double>(z.width);
  cost.forward_flops = 2.0 * static_cast<double>(s.batch) * width * (static_cast<double>(s.options.num_labels) + (mean ? 0.0 : width));
  return cost;
}

ActivationCost word_prediction_cost(const CostShape& s) {
  const Sizes z(s);
  const int64_t vocabulary = s.options.vocab_size, logits = z.element * z.tokens * vocabulary;
  ActivationCost cost;
  cost.output_bytes = logits;
  cost.saved_bytes = 2 * z.hidden + z.statistics();  // the dense layer's rows and the norm's
  // GELU's rows and the norm are made before there are logits.
  cost.forward_transient_bytes = std::max<int64_t>(z.hidden - logits, 0);
  cost.inference_product_bytes = z.hidden;
  cost.inference_transient_bytes = std::max(2 * z.hidden + z.statistics() - logits, cost.inference_product_bytes);
  cost.forward_work = {2 * z.hidden + z.statistics(), 4};
  set_backward(cost, [&](bool accumulating) {
    MemoryTimeline m(logits);
    m.pass(gradient_temporary(s.compute_type, vocabulary, z.width, accumulating)).take(z.hidden).product();
    m.take(z.hidden).take(z.hidden).pass(z.norm_gradients()).give(z.hidden);
    m.pass(gradient_temporary(s.compute_type, z.width, z.width, accumulating)).take(z.hidden).product();
    return m;
  });
  const double width = static_cast<double>(z.width);
  cost.forward_flops = 2.0 * static_cast<double>(z.tokens) * width * (width + static_cast<double>(vocabulary));
  return cost;
}

}  // namespace

ActivationCost unit_cost(const CostShape& shape, int index) {
  if (index == 0) return embedding_cost(shape);
  if (index > shape.options.num_hidden_layers) return shape.options.predicts_tokens() ? word_prediction_cost(shape) : head_cost(shape);
  return layer_cost(shape);
}

}  // namespace zerostep::bert
