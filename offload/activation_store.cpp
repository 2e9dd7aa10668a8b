#include "offload/activation_store.h"

#include <ATen/ops/from_blob.h>

#include <utility>

#include "base/dtype.h"
#include "base/error.h"
#include "base/nth.h"

namespace zerostep {
namespace {

// Copies of tensors, one after the other in `memory` of a device, which has room for them.
std::vector<at::Tensor> copies_in(std::byte* memory, at::Device device, const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> out;
  for (const at::Tensor& tensor : tensors) {
    out.push_back(at::from_blob(memory, tensor.sizes(), tensor.options().device(device)));
    out.back().copy_(tensor, /*non_blocking=*/true);
    memory += round_up(static_cast<int64_t>(tensor.nbytes()), kAlignmentBytes);
  }
  return out;
}

}  // namespace

void ActivationStore::put(int unit, std::vector<at::Tensor> tensors) {
  if (holds(unit)) fail_protocol("[activations] the input of unit {} is put twice", unit);
  const at::Device device = tensors.empty() ? at::Device(at::kCPU) : tensors.front().device();
  nth(kept_, unit) = Kept{std::move(tensors), {}, {}, device};
}

void ActivationStore::store(int unit, std::span<std::byte> memory) {
  Kept& kept = this->kept(unit, "stored");
  int64_t bytes = 0;
  for (const at::Tensor& tensor : kept.tensors) bytes += round_up(static_cast<int64_t>(tensor.nbytes()), kAlignmentBytes);
  if (bytes > std::ssize(memory)) fail_protocol("[activations] the input of unit {} takes more than {} bytes", unit, memory.size());
  kept.stored = copies_in(memory.data(), at::kCPU, kept.tensors);
}

void ActivationStore::drop(int unit) { kept(unit, "dropped").tensors.clear(); }

void ActivationStore::load(int unit, std::byte* slot) {
  Kept& kept = this->kept(unit, "loaded");
  if (kept.stored.empty()) fail_protocol("[activations] the input of unit {} is loaded, which was not stored", unit);
  kept.loaded = copies_in(slot, kept.device, kept.stored);
}

bool ActivationStore::holds(int unit) const {
  if (unit < 0 || unit >= std::ssize(kept_)) fail_protocol("[activations] unit {} of {}", unit, kept_.size());
  return nth(kept_, unit).has_value();
}

std::vector<at::Tensor> ActivationStore::take(int unit) {
  Kept taken = std::move(kept(unit, "taken"));
  nth(kept_, unit).reset();
  if (taken.stored.empty()) return std::move(taken.tensors);
  if (taken.loaded.empty()) fail_protocol("[activations] the input of unit {} is taken, which is stored and was not loaded", unit);
  return std::move(taken.loaded);
}

ActivationStore::Kept& ActivationStore::kept(int unit, const char* what) {
  if (!holds(unit)) fail_protocol("[activations] the input of unit {} is {}, which was not put", unit, what);
  return *nth(kept_, unit);
}

void ActivationStore::clear() {
  for (auto& kept : kept_) kept.reset();
}

}  // namespace zerostep
