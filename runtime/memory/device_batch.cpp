#include "runtime/memory/device_batch.h"

#include <ATen/ops/empty.h>

#include "base/dtype.h"

namespace zerostep {

void bring_to_device(std::vector<Batch*> batches, const Device& device) {
  if (device.is_host()) return;
  std::vector<at::Tensor*> tensors;
  int64_t bytes = 0;
  for (Batch* batch : batches)
    for (at::Tensor* tensor : {&batch->tokens, &batch->labels, &batch->mask, &batch->positions, &batch->document_ids, &batch->token_types,
                               &batch->word_positions})
      if (tensor->defined()) {
        tensors.push_back(tensor);
        bytes += round_up(static_cast<int64_t>(tensor->nbytes()), kAlignmentBytes);
      }
  const auto raw = at::TensorOptions().dtype(at::kByte);
  // LibTorch keeps the pinned block until its copy is done.
  const at::Tensor pinned = at::empty({bytes}, raw.pinned_memory(true)), block = at::empty({bytes}, raw.device(at::Device(device.name())));
  int64_t at = 0;
  const auto part_of = [&](const at::Tensor& whole, const at::Tensor& tensor) {
    return whole.narrow(0, at, static_cast<int64_t>(tensor.nbytes())).view(tensor.scalar_type()).view(tensor.sizes());
  };
  for (at::Tensor* tensor : tensors) {
    part_of(pinned, *tensor).copy_(*tensor);
    at += round_up(static_cast<int64_t>(tensor->nbytes()), kAlignmentBytes);
  }
  block.copy_(pinned, /*non_blocking=*/true);
  at = 0;
  for (at::Tensor* tensor : tensors) {
    const int64_t size = round_up(static_cast<int64_t>(tensor->nbytes()), kAlignmentBytes);
    *tensor = part_of(block, *tensor);
    at += size;
  }
}

}  // namespace zerostep
