#include "runtime/engine/device_batch.h"

namespace zerostep {

void bring_to_device(Batch& batch, const Device& device) {
  const at::Device there(device.name());
  for (at::Tensor* tensor :
       {&batch.tokens, &batch.labels, &batch.mask, &batch.positions, &batch.document_ids, &batch.token_types, &batch.word_positions})
    if (tensor->defined()) *tensor = tensor->to(there, /*non_blocking=*/true);
}

}  // namespace zerostep
