#pragma once
#include <cstdint>

#include "base/dtype.h"

namespace zerostep {

// Whose code runs a unit: kernels for the CPU, or for CUDA.
enum class Backend : uint8_t { Cpu, Cuda };

// No GPU that LibTorch runs on has more: what is taken where nobody says how many a GPU has.
inline constexpr int64_t kMostMultiprocessors = 192;

// What a unit runs on.
struct ActivationShape {
  int64_t batch = 0, sequence = 0;
  DType compute_type = DType::F32;
  bool training = false;  // dropout is on
  Backend backend = Backend::Cpu;
  // Of a GPU whose flash attention repeats its bits (models/fused_attention.h): its backward sums the gradients of queries in several
  // arrays, as many as these need. 0: in one, as it does where bits need not repeat. What it takes for more is then left to measurement.
  int64_t multiprocessors = 0;
};

// Bytes of the tensors that LibTorch's allocator holds for one unit and one micro-batch whose mask, if any, hides ends alone, without
// document ids, for the plan: the same on every machine, checked against measurement by the tests. Parameters and pre-assigned gradients
// are the caller's and not counted, nor what LibTorch's kernels take beside their results, which depends on the machine
// (runtime/memory/workspace.h).
struct ActivationCost {
  int64_t output_bytes = 0;               // the boundary activation that the unit hands on
  int64_t saved_bytes = 0;                // held from forward to backward besides input and output
  int64_t forward_transient_bytes = 0;    // highest extra during forward (beyond saved and output), graph recorded
  int64_t inference_transient_bytes = 0;  // highest extra during forward without a graph (beyond output)
  int64_t inference_product_bytes = 0;    // the same, of moments at which a product is made, with what it takes itself
  // Highest extra during backward beyond input, saved and output (incoming and outgoing gradients counted), with fresh gradient buffers.
  int64_t backward_transient_bytes = 0;
  // The same when gradients add to earlier micro-batches': products pass through a temporary.
  int64_t accumulating_backward_transient_bytes = 0;
  double forward_flops = 0;     // multiply-adds count two
  double attention_flops = 0;   // of forward_flops: of attention's scores and of what they weigh
  int64_t attention_heads = 0;  // of queries, of all samples
  double repeated_flops = 0;    // that a backward works out again of the forward, by itself
  // What the operations other than products write, in place or not, and how many operations there are, those of products included: what a
  // forward and a backward take beside their products. On the CPU.
  struct Work {
    int64_t written_bytes = 0, operations = 0;
  };
  Work forward_work, backward_work;
};

}  // namespace zerostep
