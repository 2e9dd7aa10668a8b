#include "models/attention.h"

#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "base/error.h"
#include "base/nth.h"
#include "models/fused_attention.h"
#include "models/kernel_rows.h"

namespace zerostep {

namespace {

// LibTorch's flash attention knows as many heads of keys as of queries: it takes one query head of every group at a time.
at::Tensor group_part(const at::Tensor& queries, int64_t shared_heads, int64_t index) {
  const int64_t group = queries.size(1) / shared_heads;
  return queries.unflatten(1, {shared_heads, group}).select(2, index);
}

int64_t group_size(const AttentionInput& in) {
  const int64_t heads = in.q.size(1), shared = in.k.size(1);
  if (heads % shared != 0) fail_protocol("[attention] {} heads of queries do not divide by {} of keys", heads, shared);
  return heads / shared;
}

std::optional<at::Tensor> additive(const AttentionInput& in) {
  if (!in.allowed.defined()) return std::nullopt;
  return at::zeros(in.allowed.sizes(), in.q.options().requires_grad(false))
      .masked_fill_(in.allowed.logical_not(), -std::numeric_limits<double>::infinity());
}

bool is_causal(const AttentionInput& in) { return in.causal && !in.allowed.defined(); }

// [B, heads, T, d] over memory [B, T, heads, d]; itself where it is so already.
at::Tensor as_rows(const at::Tensor& heads) { return heads.transpose(1, 2).contiguous().transpose(1, 2); }

at::Tensor like_rows(const at::Tensor& heads) {
  return at::empty({heads.size(0), heads.size(2), heads.size(1), heads.size(3)}, heads.options().requires_grad(false)).transpose(1, 2);
}

// Gradients through the attention that LibTorch chooses for a device, which is run once more for them.
std::array<at::Tensor, 3> gradients_of_operations(const at::Tensor& gradient, TensorList qkv, bool causal,
                                                  const std::optional<at::Tensor>& mask) {
  const at::AutoGradMode with_graph(true);
  for (at::Tensor& t : qkv) t = t.detach().requires_grad_();
  const at::Tensor y = scaled_attention(qkv[0], qkv[1], qkv[2], mask, causal);
  const TensorList gradients = torch::autograd::grad({y}, qkv, {gradient});
  return {as_rows(gradients[0]), as_rows(gradients[1]), as_rows(gradients[2])};
}

}  // namespace

Attended attend(const AttentionInput& in) {
  const int64_t group = group_size(in), shared = in.k.size(1);
  const auto mask = additive(in);
  Attended result;
  if (group > 1) result.output = like_rows(in.q);
  for (int64_t i = 0; i < group; ++i) {
    const at::Tensor q = group > 1 ? group_part(in.q, shared, i) : in.q;
    at::Tensor y;
    if (has_kernels(q)) {
      auto [output, logsumexp] = at::_scaled_dot_product_flash_attention_for_cpu(q, in.k, in.v, 0.0, is_causal(in), mask);
      y = output;
      result.logsumexp.push_back(logsumexp);
    } else {
      const at::NoGradGuard no_grad;
      y = at::scaled_dot_product_attention(q, in.k, in.v, mask, 0.0, is_causal(in));
    }
    if (group == 1) {
      result.output = as_rows(y);
    } else {
      group_part(result.output, shared, i).copy_(y);
    }
  }
  return result;
}

std::array<at::Tensor, 3> attend_backward(const at::Tensor& gradient, const AttentionInput& in, const Attended& attended) {
  const int64_t group = group_size(in), shared = in.k.size(1);
  const auto mask = additive(in);
  std::array<at::Tensor, 3> result;
  if (group > 1) result[0] = like_rows(in.q);
  for (int64_t i = 0; i < group; ++i) {
    const auto part = [&](const at::Tensor& t) { return group > 1 ? group_part(t, shared, i) : t; };
    const auto [gq, gk, gv] = [&]() -> std::array<at::Tensor, 3> {
      if (!has_kernels(in.q)) return gradients_of_operations(part(gradient), {part(in.q), in.k, in.v}, is_causal(in), mask);
      auto [q, k, v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          part(gradient), part(in.q), in.k, in.v, part(attended.output), nth(attended.logsumexp, i), 0.0, is_causal(in), mask);
      return {q, k, v};
    }();
    if (group == 1) return {gq, gk, gv};
    part(result[0]).copy_(gq);
    if (i == 0) {
      result[1] = gk;
      result[2] = gv;
    } else {
      result[1].add_(gk);
      result[2].add_(gv);
    }
  }
  return result;
}

bool has_flash_attention(DType type, int64_t head_width, bool masked) {
  constexpr int64_t kWidestFlashHead = 256;
  return at::globalContext().userEnabledFlashSDP() && is_16bit(type) && !masked && head_width <= kWidestFlashHead;
}

bool has_fused_attention(DType type, int64_t head_width, bool masked) {
  constexpr int64_t kAlignedBytes = 16;
  return has_flash_attention(type, head_width, masked) ||
         (at::globalContext().userEnabledMemEfficientSDP() && num_bytes(head_width, type) % kAlignedBytes == 0);
}

at::Tensor allowed_pairs(const Batch& batch) {
  const bool masked = batch.mask.defined() && !batch.pads_ends;
  if (!masked && !batch.document_ids.defined()) return {};
  const int64_t length = batch.tokens.size(1);
  const auto options = batch.tokens.options().dtype(at::kBool);
  at::Tensor allowed = at::ones({length, length}, options).tril_().unsqueeze(0);
  if (masked) allowed = allowed.logical_and(batch.mask.unsqueeze(1));
  if (batch.document_ids.defined()) allowed = allowed.logical_and(batch.document_ids.unsqueeze(2).eq(batch.document_ids.unsqueeze(1)));
  return allowed.logical_or(at::eye(length, options)).unsqueeze(1);
}

}  // namespace zerostep
