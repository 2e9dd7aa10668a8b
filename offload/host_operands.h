#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/device.h"
#include "offload/flat_operands.h"

namespace zerostep {

// Updates that the host makes of what lies in a GPU's memory, in part or whole: what they read of it is copied to memory of the host, and
// what they change is copied back, both beside the update of the part before. One thread, the one of a stream of the host.
class HostOperands {
 public:
  // `memory`, pinned, is the host's (Plan: BufferKind::HostOperands); it outlives the object.
  HostOperands(const Device& device, std::span<std::byte> memory);
  // Blocks, but not until the last part is done. What `given` points at stays until finish().
  void update(const PieceUpdate& given, const OptimizerFormula& formula, const Stream& stream);
  // Blocks until everything is done and where it belongs.
  void finish(const Stream& stream);

  // Of a part's element: its value and its gradient, in fp32 at most.
  static constexpr int64_t kBytesOfElement = 8;
  static constexpr int kSlots = 2;
  // Parts that are long enough for the link between the host and the device, and short enough to be updated while the next one comes.
  static constexpr int64_t kMostElements = int64_t{1} << 20;

 private:
  struct Slot {
    std::byte* values = nullptr;
    float* gradient = nullptr;
    Event is_free;
  };
  struct Part {
    PieceUpdate there, here;  // as it was given, and with the operands that are copied
    OptimizerFormula formula;
    Slot* slot = nullptr;
    Event has_come;
  };
  Part bring(const PieceUpdate& part, const OptimizerFormula& formula);
  void make(const Stream& stream);

  const Device& device_;
  Stream to_host_, to_device_;
  int64_t elements_ = 0;  // of a slot
  std::array<Slot, kSlots> slots_;
  size_t next_slot_ = 0;
  std::optional<Part> waiting_;  // on its way, and to be updated next
};

}  // namespace zerostep
