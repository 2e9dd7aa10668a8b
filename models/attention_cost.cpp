#include "models/attention_cost.h"

#include <algorithm>

#include "models/attention.h"

namespace zerostep {

namespace {

// What the backward of LibTorch's flash attention takes besides gradients, all fp32: sums of the gradients of queries, whose tokens and
// whose heads' widths are rounded up, and a number for each row. Blocks that walk over the keys add to these sums; where they are to do so
// in one order there are as many arrays of sums as fill all multiprocessors with a block of each head (mha_bwd() of flash_api.cpp). Heads
// of keys are as many as those of queries, as attend() has them: copies of gradients for groups there are none.
int64_t flash_sums(const ActivationShape& shape, int64_t heads, int64_t head_width) {
  const int64_t blocks = shape.batch * heads, rows = blocks * round_up(shape.sequence, 128);
  const int64_t width = round_up(head_width, head_width <= 128 ? 32 : 64);
  const int64_t arrays = std::max<int64_t>(1, round_up(shape.multiprocessors, blocks) / blocks);
  return 4 * rows * (arrays * width + 1);
}

int64_t fused_sums(const ActivationShape& shape, int64_t heads, int64_t head_width, bool masked) {
  if (shape.backend == Backend::Cpu || !is_16bit(shape.compute_type)) return 0;
  if (has_flash_attention(shape.compute_type, head_width, masked)) return flash_sums(shape, heads, head_width);
  return 4 * shape.batch * heads * shape.sequence * (head_width + 1);
}

}  // namespace

AttentionCost::AttentionCost(const ActivationShape& shape, int64_t heads, int64_t head_width, bool masked, bool drops)
    : backend(shape.backend),
      element(static_cast<int64_t>(size_of(shape.compute_type))),
      batch(shape.batch),
      length(shape.sequence),
      values(batch * heads * length * head_width),
      scores(batch * heads * length * length),
      flags(masked ? length : length * length),
      vectors(batch * heads * length),
      sums(fused_sums(shape, heads, head_width, masked)),
      causal(!masked),
      // A product of batches takes tensors of three dimensions, to which heads of several samples are copied.
      copies(batch > 1 && heads > 1) {
  const bool is_fused = backend == Backend::Cpu || has_fused_attention(shape.compute_type, head_width, masked);
  kind = drops ? Kind::Dropped : is_fused ? Kind::Fused : Kind::Plain;
}

void AttentionCost::forward(bool graph, MemoryTimeline& m) const {
  if (kind == Kind::Dropped) {
    const int64_t sample = element * scores / batch;
    m.take(rows());
    if (graph) m.take(element * scores);
    m.pass(flags + 2 * sample).pass(sample + rows() / batch);
    return;
  }
  if (kind == Kind::Fused) {
    m.take(rows()).take(4 * vectors);
    if (!graph) m.give(4 * vectors);
    return;
  }
  const int64_t wide = 4 * values, widened = element == 2 ? wide : 0, copy = copies ? wide : 0, matrix = 4 * scores,
                mask = causal ? 4 * flags : 0;
  m.take(3 * widened).take(wide).take(mask).take(wide);  // in fp32; scaled queries and keys
  m.take(2 * copy).take(matrix);
  if (!graph || copies) m.give(wide);  // keys
  if (!graph) m.give(2 * copy);
  // Softmax, with flags of pairs that are not allowed, flags of rows that have no other, and a zero for those.
  const int64_t all_flags = scores + vectors + 4;
  m.take(matrix).take(all_flags).give(matrix + all_flags);
  m.take(copy).take(wide);
  if (element == 2) m.take(rows()).pass(2 * scores).give(wide);
  m.give(mask + (graph && !copies ? 2 * widened : 3 * widened + wide));
  if (!graph) m.give(copy + matrix);
}

void AttentionCost::backward(MemoryTimeline& m, int64_t operands) const {
  if (kind == Kind::Dropped) {
    const int64_t sample = element * scores / batch;
    m.take(3 * rows()).write(2 * element * scores).pass(2 * sample + rows() / batch);
    m.give(rows()).give(element * scores + operands);
    return;
  }
  if (kind == Kind::Fused) {
    m.take(3 * rows()).pass(sums).give(rows()).give(4 * vectors + operands);
    return;
  }
  const int64_t wide = 4 * values, matrix = 4 * scores;
  if (element == 2) m.take(wide).give(rows());
  if (copies) m.take(wide).give(wide);
  m.take(matrix + wide)
      .give((keeps_copies() ? 2 * wide : wide) + operands);  // of probabilities and values; the output's and saved values go
  m.take(matrix).give(2 * matrix);                           // of scores
  m.take(2 * wide).give(matrix + 2 * wide);                  // of scaled queries and keys
  m.pass(wide).pass(wide);                                   // of queries and keys
  if (element == 2) m.take(3 * rows()).give(3 * wide);
}

}  // namespace zerostep
