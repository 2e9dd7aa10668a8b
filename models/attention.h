#pragma once
#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "base/dtype.h"
#include "models/batch.h"

namespace zerostep {

// softmax(q k' / sqrt(d)) v without a graph and without dropout, with as many heads of keys and values as of queries, or fewer, each shared
// by a group of consecutive query heads (arXiv 2305.13245) and not copied for them. Queries are [B, heads, T, d], keys and values
// [B, shared heads, T, d], all over memory [B, T, heads, d], fp32, bf16 or fp16.
struct AttentionInput {
  at::Tensor q, k, v;
  at::Tensor allowed;   // bool, [B, 1, T, T] or [B, 1, 1, T]; undefined: all, or with `causal` those that are not later
  bool causal = false;  // looked at where `allowed` is undefined
};
struct Attended {
  at::Tensor output;  // [B, heads, T, d] over memory [B, T, heads, d]
  // fp32 [B, shared heads, T] of the first head of each group, of the second...: for the backward; none: it works them out again.
  std::vector<at::Tensor> logsumexp;
};
Attended attend(const AttentionInput& input);
// Gradients of q, k and v, over memory like theirs.
std::array<at::Tensor, 3> attend_backward(const at::Tensor& gradient, const AttentionInput& input, const Attended& attended);

// Whether LibTorch has attention on CUDA that keeps a logsumexp, not the probabilities, for heads of this width: a flash kernel of 16-bit
// types without a mask, or another of whole 16 bytes. A process may have forbidden it either.
bool has_fused_attention(DType type, int64_t head_width, bool masked);
// Whether it is the flash kernel.
bool has_flash_attention(DType type, int64_t head_width, bool masked);

// Pairs that may attend, [B, 1, T, T] bool: not later, not masked out, of the same document; a position always sees itself, so that padding
// stays finite. Undefined when the batch has neither a mask of more than ends of samples nor document ids.
at::Tensor allowed_pairs(const Batch& batch);

}  // namespace zerostep
