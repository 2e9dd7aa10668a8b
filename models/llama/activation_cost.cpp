#include "models/attention_cost.h"
#include "models/llama/units.h"
#include "models/rms_norm.h"
#include "models/score_head.h"

// The allocations of units.cpp and functions.cpp told in their order. Tensors of a few bytes (casts of gains and biases) are left out.
namespace zerostep::llama {

namespace {

struct Sizes : ActivationSizes {
  explicit Sizes(const CostShape& s)
      : ActivationSizes(s, s.options.hidden_size, s.options.intermediate_size),
        type(s.compute_type),
        groups(s.options.num_attention_heads / s.options.key_value_heads()),
        query_width(s.options.num_attention_heads * s.options.head_width()),
        key_width(s.options.key_value_heads() * s.options.head_width()),
        queries(element * tokens * query_width),
        keys(element * tokens * key_width),
        logsumexp(4 * tokens * s.options.num_attention_heads),
        angles(4 * s.sequence * s.options.head_width() / 2),
        part(s, s.options.key_value_heads(), s.options.head_width(), false, false) {}

  DType type;
  int64_t groups;  // query heads that share keys
  int64_t query_width, key_width;
  int64_t queries, keys;  // activations [tokens, query_width] and [tokens, key_width]
  int64_t logsumexp;
  int64_t angles;      // one fp32 table [sequence, head_width / 2]
  AttentionCost part;  // of a query head of each group

  // RMSNorm's gradient of the gain, and its partial sums.
  int64_t norm_gradient() const {
    return 4 * width + (shape.backend == Backend::Cpu ? rms_norm_backward_bytes(tokens, width) : 4 * width * cuda_groups());
  }
};

// On CUDA; queries, keys and values are there. With groups each one's output passes on its way.
void cuda_attention(const Sizes& z, MemoryTimeline& m) {
  if (z.groups == 1) {
    z.part.forward(false, m);
    m.pass(z.part.turned());
  } else {
    m.take(z.queries);
    z.part.forward(false, m);
    m.give(z.part.rows());
  }
}

// Attention is run once more with a graph, for each group, and its gradients are added up.
void cuda_attention_backward(const Sizes& z, MemoryTimeline& m) {
  const int64_t results = z.queries + 2 * z.keys, part = z.part.rows();
  if (z.groups > 1) m.take(results);
  z.part.forward(true, m);
  m.take(part);  // the gradient that backward() gives stays
  z.part.backward(m);
  m.pass(3 * z.part.turned()).give(4 * part);
  if (z.groups == 1) m.take(results);
}

void layer_forward(const Sizes& z, bool graph, MemoryTimeline& m) {
  m.take(2 * z.angles).pass(z.angles);
  m.take(z.hidden).take(z.queries + 2 * z.keys).product(z.product).give(z.hidden);
  m.write(z.queries + z.keys);  // turned by their positions
  // Attention: with groups, each group's output passes on its way.
  if (z.shape.backend == Backend::Cpu) {
    m.take(z.queries);
    const int64_t part = z.groups > 1 ? z.queries / z.groups : 0;
    m.take(z.logsumexp / z.groups * (z.groups - 1)).pass(part + z.logsumexp / z.groups).take(z.logsumexp / z.groups);
    if (!graph) m.give(z.logsumexp);
  } else {
    cuda_attention(z, m);
  }
  if (!graph) m.give(z.queries + 2 * z.keys);
  m.take(z.hidden).product(z.product);  // after attention
  if (!graph) m.give(z.queries);
  if (!graph) m.give(2 * z.angles);
  m.take(z.hidden).take(2 * z.inner_hidden).product(z.product).give(z.hidden);
  graph ? m.take(z.inner_hidden) : m.write(z.inner_hidden).give(z.inner_hidden);  // SwiGLU keeps its inputs
  m.take(z.hidden).product(z.product).give(z.inner_hidden);
  if (!graph) m.give(z.hidden);
}

// Beyond input, saved and output; starts with the gradient that comes in.
MemoryTimeline layer_backward(const Sizes& z, bool accumulating) {
  MemoryTimeline m(z.hidden);
  // MLP: SwiGLU's backward overwrites its inputs and their gradient.
  m.take(z.inner_hidden).product().write(3 * z.inner_hidden).pass(gradient_temporary(z.type, z.width, z.inner, accumulating));
  m.take(z.hidden).pass(gradient_temporary(z.type, z.inner, z.width, accumulating)).pass(z.norm_gradient()).write(2 * z.hidden);
  m.give(z.inner_hidden);
  m.give(2 * z.inner_hidden + z.hidden);  // saved: the MLP's inside and input
  // Attention.
  m.pass(gradient_temporary(z.type, z.width, z.query_width, accumulating));
  m.take(z.queries).product();
  if (z.shape.backend == Backend::Cuda) {
    cuda_attention_backward(z, m);
  } else if (z.groups > 1) {
    // A group's gradients on their way, and a copy of its output.
    m.take(z.queries + 2 * z.keys).pass(2 * z.queries / z.groups + 2 * z.keys);
  } else {
    m.take(z.queries + 2 * z.keys);
  }
  m.give(z.queries).write(z.queries + z.keys);
  m.take(z.hidden).pass(gradient_temporary(z.type, z.query_width, z.width, accumulating)).give(z.hidden);
  m.take(z.hidden).product().pass(z.norm_gradient()).write(2 * z.hidden);
  return m;
}

ActivationCost embedding_cost(const CostShape& s) {
  const Sizes z(s);
  ActivationCost cost;
  cost.output_bytes = z.hidden;
  cost.backward_transient_bytes = cost.accumulating_backward_transient_bytes = z.hidden + z.lookup_gradients(false);
  cost.forward_work = cost.backward_work = {z.hidden, 1};
  return cost;
}

ActivationCost layer_cost(const CostShape& s) {
  const Sizes z(s);
  ActivationCost cost = zerostep::layer_cost(
      z, [&](const Sizes& sizes, bool graph, MemoryTimeline& m) { layer_forward(sizes, graph, m); },
      [&](bool accumulating) { return layer_backward(z, accumulating); });
  const auto n = static_cast<double>(z.tokens), width = static_cast<double>(z.width), query_width = static_cast<double>(z.query_width);
  const double matrices = width * (2 * query_width + 2 * static_cast<double>(z.key_width) + 3 * static_cast<double>(z.inner));
  cost.attention_heads = s.batch * s.options.num_attention_heads;
  cost.attention_flops = 2 * n * query_width * static_cast<double>(s.sequence + 1);
  cost.forward_flops = 2 * n * matrices + cost.attention_flops;
  return cost;
}

ActivationCost head_cost(const CostShape& s) {
  const Sizes z(s);
  const int64_t outputs = s.options.num_labels > 0 ? s.options.num_labels : s.options.vocab_size;
  const int64_t logits = z.element * z.tokens * outputs;
  ActivationCost cost;
  cost.output_bytes = logits;
  cost.forward_transient_bytes = cost.inference_transient_bytes = cost.inference_product_bytes = z.hidden;
  cost.forward_work = {z.hidden, 2};
  set_backward(cost, [&](bool accumulating) {
    MemoryTimeline m(logits);
    m.take(z.hidden).pass(gradient_temporary(z.type, outputs, z.width, accumulating));
    m.pass(z.norm_gradient()).write(z.hidden);
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
  cost.forward_work = {z.hidden, 1};
  set_backward(cost, [&](bool) {
    MemoryTimeline m(z.hidden);
    m.take(z.hidden).pass(z.norm_gradient()).write(z.hidden);
    return m;
  });
  return cost;
}

ActivationCost unit_cost(const CostShape& shape, int index) {
  if (index == 0) return embedding_cost(shape);
  if (index > shape.options.num_hidden_layers) {
    if (shape.options.num_labels == 0) return head_cost(shape);
    return score_head_cost(shape, shape.options.hidden_size, [&](const ActivationShape& rows) { return head_cost({rows, shape.options}); });
  }
  return layer_cost(shape);
}

}  // namespace zerostep::llama
