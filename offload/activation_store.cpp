#include "offload/activation_store.h"

#include <utility>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {

void ActivationStore::put(int unit, std::vector<at::Tensor> tensors) {
  if (holds(unit)) fail_protocol("[activations] the input of unit {} is put twice", unit);
  nth(kept_, unit) = std::move(tensors);
}

bool ActivationStore::holds(int unit) const {
  if (unit < 0 || unit >= std::ssize(kept_)) fail_protocol("[activations] unit {} of {}", unit, kept_.size());
  return nth(kept_, unit).has_value();
}

std::vector<at::Tensor> ActivationStore::take(int unit) {
  if (!holds(unit)) fail_protocol("[activations] the input of unit {} is taken, which was not put", unit);
  return *std::exchange(nth(kept_, unit), std::nullopt);
}

void ActivationStore::clear() {
  for (auto& kept : kept_) kept.reset();
}

}  // namespace zerostep
