#pragma once
#include "models/cost_parts.h"

namespace zerostep {

// Attention as it is run: of samples with so many heads of queries and as many of keys and values.
struct AttentionCost {
  enum class Kind : uint8_t {
    Fused,    // keeps a logsumexp of each head and token
    Plain,    // LibTorch's products and softmax in fp32, which keep all probabilities
    Dropped,  // drops probabilities: those of every sample are kept in the type of activations, one sample's at a time beside them
  };
  // `masked`: by flags of a sample's tokens; otherwise it is causal.
  AttentionCost(const ActivationShape& shape, int64_t heads, int64_t head_width, bool masked, bool drops);

  // Bytes of an activation [batch, heads, length, head_width].
  int64_t rows() const { return element * values; }
  // Whether queries, keys and values may go while the graph is kept, which has copies of its own.
  bool keeps_copies() const { return kind == Kind::Plain && (copies || element == 2); }
  // Copies of what it gives or takes where that lies head by head, and is wanted token by token.
  int64_t turned() const { return kind == Kind::Plain ? rows() : 0; }

  // Of queries, keys and values that are there: leaves the output and, with a graph, what the backward needs besides.
  void forward(bool graph, MemoryTimeline& m) const;
  // Leaves the gradients of queries, keys and values. The output's gradient and what the graph kept go, and of the output and of what it
  // was made of `operands`.
  void backward(MemoryTimeline& m, int64_t operands = 0) const;
  // These go all.
  void last_backward(MemoryTimeline& m) const {
    if (kind != Kind::Plain) return backward(m, 4 * rows());
    m.give(rows());  // only a fused one reads its output
    backward(m, keeps_copies() ? 0 : 3 * rows());
  }

  Kind kind;
  Backend backend;
  int64_t element, batch, length;
  int64_t values;   // elements of queries
  int64_t scores;   // of probabilities
  int64_t flags;    // of the mask of one sample
  int64_t vectors;  // rows of all heads
  int64_t sums;     // bytes that a fused backward has for itself
  bool causal, copies;
};

}  // namespace zerostep
