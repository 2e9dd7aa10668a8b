#include "runtime/strategy/joined_batch.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/ones.h>

#include <algorithm>

namespace zerostep {

void pad_together(const std::vector<Batch*>& batches) {
  int64_t longest = 0;
  for (const Batch* batch : batches) longest = std::max(longest, batch->tokens.size(1));
  const bool masked = std::any_of(batches.begin(), batches.end(),
                                  [&](const Batch* batch) { return batch->mask.defined() || batch->tokens.size(1) < longest; });
  if (!masked) return;
  for (Batch* batch : batches) {
    if (!batch->mask.defined()) {
      batch->mask = at::ones(batch->tokens.sizes(), batch->tokens.options().dtype(at::kBool));
      batch->pads_ends = true;
    }
    for (at::Tensor* rows : {&batch->tokens, &batch->mask, &batch->positions, &batch->document_ids, &batch->token_types})
      if (rows->defined() && rows->size(1) < longest) *rows = at::constant_pad_nd(*rows, {0, longest - rows->size(1)}, 0);
  }
}

Batch joined_batch(const std::vector<const Batch*>& batches) {
  const auto join = [&](at::Tensor Batch::*member) {
    if (!(batches.front()->*member).defined()) return at::Tensor();
    TensorList parts;
    for (const Batch* batch : batches) parts.push_back(batch->*member);
    return at::cat(parts, 0);
  };
  Batch out;
  out.tokens = join(&Batch::tokens);
  out.mask = join(&Batch::mask);
  out.positions = join(&Batch::positions);
  out.document_ids = join(&Batch::document_ids);
  out.token_types = join(&Batch::token_types);
  out.word_positions = join(&Batch::word_positions);
  out.pads_ends = std::all_of(batches.begin(), batches.end(), [](const Batch* batch) { return batch->pads_ends; });
  for (const Batch* batch : batches) out.sample_ids.insert(out.sample_ids.end(), batch->sample_ids.begin(), batch->sample_ids.end());
  return out;
}

}  // namespace zerostep
