#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/nth.h"

namespace zerostep {

// What comes into the units of a model, kept from the visit that puts it to the one that takes it, as the plan says
// (BufferKind::Activation): as the tensors themselves, or copied to memory of the host and back into new tensors. One thread. A mistake
// throws ProtocolError and names the unit.
class ActivationStore {
 public:
  explicit ActivationStore(int num_units) : kept_(static_cast<size_t>(num_units)), memory_(static_cast<size_t>(num_units)) {}
  // Keeps tensors (of a first unit: none) until they are taken; a unit's are put once.
  void put(int unit, std::vector<at::Tensor> tensors);
  // The same of what a recomputation begins with: copies, where the unit has memory for them.
  void put_checkpoint(int unit, std::vector<at::Tensor> tensors);
  bool holds(int unit) const;
  // From here on a unit's checkpoints are copied to this memory, which must outlive the object and have room for each tensor rounded up
  // to kAlignmentBytes.
  void keep_in(int unit, std::span<std::byte> memory) { nth(memory_, unit) = memory; }
  std::vector<at::Tensor> take(int unit);
  // Drops what a step that was left has kept.
  void clear();

 private:
  struct Kept {
    std::vector<at::Tensor> tensors;
    bool is_copy = false;  // in the unit's memory, of which the tensors own nothing
  };
  std::vector<std::optional<Kept>> kept_;     // per unit
  std::vector<std::span<std::byte>> memory_;  // per unit; empty: the tensors are kept
};

}  // namespace zerostep
