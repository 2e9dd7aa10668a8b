#include "runtime/strategy/joined_batch.h"

#include <ATen/ops/cat.h>

namespace zerostep {

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
  for (const Batch* batch : batches) out.sample_ids.insert(out.sample_ids.end(), batch->sample_ids.begin(), batch->sample_ids.end());
  return out;
}

}  // namespace zerostep
