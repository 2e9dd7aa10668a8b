#include "offload/activation_store.h"

#include <ATen/ops/from_blob.h>

#include <utility>

#include "base/dtype.h"
#include "base/error.h"
#include "base/nth.h"

namespace zerostep {

void ActivationStore::put(int unit, std::vector<at::Tensor> tensors) {
  if (holds(unit)) fail_protocol("[activations] the input of unit {} is put twice", unit);
  nth(kept_, unit) = {std::move(tensors), false};
}

void ActivationStore::put_checkpoint(int unit, std::vector<at::Tensor> tensors) {
  put(unit, std::move(tensors));
  const std::span<std::byte> memory = nth(memory_, unit);
  if (memory.empty()) return;
  Kept& kept = *nth(kept_, unit);
  kept.is_copy = true;
  size_t at = 0;
  for (at::Tensor& tensor : kept.tensors) {
    if (at + tensor.nbytes() > memory.size())
      fail_protocol("[activations] the input of unit {} takes more than {} bytes", unit, memory.size());
    at::Tensor place = at::from_blob(memory.data() + at, tensor.sizes(), tensor.options());
    place.copy_(tensor);
    at += static_cast<size_t>(round_up(static_cast<int64_t>(tensor.nbytes()), kAlignmentBytes));
    tensor = std::move(place);
  }
}

bool ActivationStore::holds(int unit) const {
  if (unit < 0 || unit >= std::ssize(kept_)) fail_protocol("[activations] unit {} of {}", unit, kept_.size());
  return nth(kept_, unit).has_value();
}

std::vector<at::Tensor> ActivationStore::take(int unit) {
  if (!holds(unit)) fail_protocol("[activations] the input of unit {} is taken, which was not put", unit);
  Kept kept = *std::exchange(nth(kept_, unit), std::nullopt);
  for (at::Tensor& tensor : kept.tensors)
    if (kept.is_copy) tensor = tensor.clone();
  return std::move(kept.tensors);
}

void ActivationStore::clear() {
  for (auto& kept : kept_) kept.reset();
}

}  // namespace zerostep
