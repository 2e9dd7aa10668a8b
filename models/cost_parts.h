#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>

#include "base/dtype.h"
#include "models/activation_cost.h"
#include "models/layer_norm.h"

namespace zerostep {

// Parts that the activation costs of all families share.

// Allocations and releases of a piece of code told in their order: what is live, the highest it ever was, and what the operations write.
class MemoryTimeline {
 public:
  // `live`: bytes that are there at the beginning.
  explicit MemoryTimeline(int64_t live = 0) : live_(live), peak_(live) {}
  // An operation makes a tensor.
  MemoryTimeline& take(int64_t bytes) {
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    return write(bytes);
  }
  MemoryTimeline& give(int64_t bytes) {
    live_ -= bytes;
    return *this;
  }
  // Taken and given back at once.
  MemoryTimeline& pass(int64_t bytes) { return take(bytes).give(bytes); }
  // What was taken last is a product's result, during which `bytes` more are in use; writing it is part of the product.
  MemoryTimeline& product(int64_t bytes = 0) {
    work_.written_bytes -= std::exchange(last_, 0);
    peak_ = std::max(peak_, live_ + bytes);
    return *this;
  }
  // An operation writes in place, or reads so many bytes and writes few.
  MemoryTimeline& write(int64_t bytes) {
    last_ = bytes;
    work_.written_bytes += bytes;
    work_.operations += bytes > 0 ? 1 : 0;
    return *this;
  }
  int64_t live() const { return live_; }
  int64_t peak() const { return peak_; }
  const ActivationCost::Work& work() const { return work_; }

 private:
  int64_t live_ = 0, peak_ = 0, last_ = 0;
  ActivationCost::Work work_;
};

// The temporary through which a matrix's gradient [rows, columns] passes: none when it is fresh and of the activations' type. (What
// libraries take for themselves while they multiply is no tensor of ours: runtime/memory/workspace.h.)
inline int64_t gradient_temporary(DType compute_type, int64_t rows, int64_t columns, bool accumulating) {
  return is_16bit(compute_type) || accumulating ? num_bytes(rows * columns, compute_type) : 0;
}

// What the activation cost of a family's unit depends on.
template <typename Options>
struct CostShape : ActivationShape {
  const Options& options;
};
template <typename Options>
bool drops(const CostShape<Options>& shape, double p) {
  return shape.training && p > 0;
}

// Sizes that every family has.
struct ActivationSizes {
  template <typename Options>
  ActivationSizes(const CostShape<Options>& s, int64_t width, int64_t inner)
      : shape(s),
        element(static_cast<int64_t>(size_of(s.compute_type))),
        tokens(s.batch * s.sequence),
        width(width),
        inner(inner),
        hidden(element * tokens * width),
        inner_hidden(element * tokens * inner) {}

  ActivationShape shape;
  int64_t element, tokens, width, inner;
  int64_t hidden, inner_hidden;  // bytes of an activation [tokens, width] and [tokens, inner]
  int64_t product = 0;           // bytes in use during each product, which layer_cost() sets to find the highest of these moments

  // LayerNorm's mean and reciprocal deviation, fp32; what its gradients of gain and offset take.
  int64_t statistics() const { return 2 * 4 * tokens; }
  int64_t norm_gradients() const {
    return shape.backend == Backend::Cpu ? normalise_backward_bytes(element == 2, tokens, width) : 4 * 2 * width * (1 + cuda_groups());
  }
  // What gradients of looked up rows take on CUDA: sorted tokens and where they stood, and two rows of sums for a group of them. Where
  // positions are looked up, their sums over samples.
  int64_t lookup_gradients(bool positions) const {
    if (shape.backend == Backend::Cpu) return 0;
    return std::max(2 * 8 * tokens + 2 * 4 * width * cuda_groups(), positions ? 4 * width * shape.sequence : 0);
  }
  // Groups of rows that models/cuda/ sums first.
  int64_t cuda_groups() const { return (tokens + 31) / 32; }
};

// `backward(accumulating)`: what happens during a backward, as a MemoryTimeline.
template <typename Backward>
void set_backward(ActivationCost& cost, const Backward& backward) {
  const MemoryTimeline fresh = backward(false);
  cost.backward_transient_bytes = fresh.peak();
  cost.backward_work = fresh.work();
  cost.accumulating_backward_transient_bytes = backward(true).peak();
}

// Of a unit that hands on an activation [tokens, width]. `forward(sizes, graph, timeline)` tells a MemoryTimeline what happens with or
// without a graph, with sizes.product in use during each product.
template <typename Sizes, typename Forward, typename Backward>
ActivationCost layer_cost(Sizes sizes, const Forward& forward, const Backward& backward) {
  MemoryTimeline graph, inference, products;
  forward(sizes, true, graph);
  forward(sizes, false, inference);
  ActivationCost cost;
  cost.output_bytes = sizes.hidden;
  cost.saved_bytes = graph.live() - sizes.hidden;
  cost.forward_transient_bytes = graph.peak() - graph.live();
  cost.inference_transient_bytes = inference.peak() - sizes.hidden;
  cost.forward_work = graph.work();
  set_backward(cost, backward);
  constexpr int64_t kMarker = int64_t{1} << 60;
  sizes.product = kMarker;
  forward(sizes, false, products);
  cost.inference_product_bytes = products.peak() - kMarker - sizes.hidden;
  return cost;
}

}  // namespace zerostep
