#include "runtime/strategy/joined_batch.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/ones.h>

#include <algorithm>

namespace zerostep {

Batch joined_batch(const std::vector<const Batch*>& batches) {
  int64_t longest = 0;
  bool masked = false;
  for (const Batch* batch : batches) {
    const int64_t length = batch->tokens.size(1);
    masked = masked || batch->mask.defined() || (longest > 0 && length != longest);
    longest = std::max(longest, length);
  }
  const auto padded = [&](const at::Tensor& rows) {
    return rows.size(1) == longest ? rows : at::constant_pad_nd(rows, {0, longest - rows.size(1)}, 0);
  };
  const auto join = [&](at::Tensor Batch::*member, bool of_tokens = true) {
    if (!(batches.front()->*member).defined()) return at::Tensor();
    TensorList parts;
    for (const Batch* batch : batches) parts.push_back(of_tokens ? padded(batch->*member) : batch->*member);
    return at::cat(parts, 0);
  };
  Batch out;
  out.tokens = join(&Batch::tokens);
  if (masked) {
    TensorList parts;
    for (const Batch* batch : batches)
      parts.push_back(
          padded(batch->mask.defined() ? batch->mask : at::ones(batch->tokens.sizes(), batch->tokens.options().dtype(at::kBool))));
    out.mask = at::cat(parts, 0);
  }
  out.positions = join(&Batch::positions);
  out.document_ids = join(&Batch::document_ids);
  out.token_types = join(&Batch::token_types);
  out.word_positions = join(&Batch::word_positions, false);
  for (const Batch* batch : batches) out.sample_ids.insert(out.sample_ids.end(), batch->sample_ids.begin(), batch->sample_ids.end());
  return out;
}

}  // namespace zerostep
