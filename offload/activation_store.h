#pragma once
#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace zerostep {

// What comes into the units of a model, kept from the visit that puts it to the one that takes it: on the device, as the plan says
// (BufferKind::Activation). One thread. A mistake throws ProtocolError and names the unit.
class ActivationStore {
 public:
  explicit ActivationStore(int num_units) : kept_(static_cast<size_t>(num_units)) {}
  // Keeps tensors (of a first unit: none) until they are taken; a unit's are put once.
  void put(int unit, std::vector<at::Tensor> tensors);
  bool holds(int unit) const;
  std::vector<at::Tensor> take(int unit);
  // Drops what a step that was left has kept.
  void clear();

 private:
  std::vector<std::optional<std::vector<at::Tensor>>> kept_;  // per unit
};

}  // namespace zerostep
