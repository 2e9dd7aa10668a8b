#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace zerostep {

// What comes into the units of a model, kept from the visit that puts it to the one that takes it, as the plan says
// (BufferKind::Activation): the tensors themselves or, where the plan stores and loads them, copies in between. Calls for one unit come one
// after the other, but for drop(), which may come beside load(); those for several may come from several threads. A mistake throws
// ProtocolError and names the unit.
class ActivationStore {
 public:
  explicit ActivationStore(int num_units) : kept_(static_cast<size_t>(num_units)) {}
  // Keeps tensors (of a first unit: none) until they are taken; a unit's are put once.
  void put(int unit, std::vector<at::Tensor> tensors);
  bool holds(int unit) const;
  // Copies what is kept to memory of the host, each tensor rounded up to kAlignmentBytes, on the current stream. It outlives load().
  void store(int unit, std::span<std::byte> memory);
  // Lets go of tensors that are stored.
  void drop(int unit);
  // Copies what is stored to memory of the device, which has as much room, on the current stream. What take() gives then lies there.
  void load(int unit, std::byte* slot);
  std::vector<at::Tensor> take(int unit);
  // Drops what a step that was left has kept.
  void clear();

 private:
  struct Kept {
    std::vector<at::Tensor> tensors, stored, loaded;  // the latter two own no memory
    at::Device device = at::kCPU;                     // of the former and the last
  };
  Kept& kept(int unit, const char* what);
  std::vector<std::optional<Kept>> kept_;  // per unit
};

}  // namespace zerostep
