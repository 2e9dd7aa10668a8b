#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "base/device.h"
#include "offload/flat_operands.h"

namespace zerostep {

// Lets the host update what lies in a GPU's memory, in part or whole: copies what an update reads there to memory of the host, and what it
// changes back, both beside the update of the part before. Used by one thread, that of a stream of the host. After an error it is of no
// use.
class HostOperands {
 public:
  // `memory` of the host (Plan: BufferKind::HostOperands) outlives the object. Where it is not pinned, copies keep the caller waiting.
  HostOperands(const Device& device, std::span<std::byte> memory);
  // Blocks until all parts but the last are updated; what changes on the GPU is there after finish(). What `given` points at stays until
  // then.
  void update(const PieceUpdate& given, const OptimizerFormula& formula, const Stream& stream);
  // Blocks until everything is done and where it belongs.
  void finish(const Stream& stream);

  // Of a part's element: its value and its gradient, in fp32 at most.
  static constexpr int64_t kBytesOfElement = 8;
  static constexpr int kSlots = 2;
  // Of a part: 4 MiB of fp32, which a link of 50 GB/s brings in 80 us, several times what a copy takes to begin.
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
  Part copy_to_host(const PieceUpdate& part, const OptimizerFormula& formula);
  void update_waiting(const Stream& stream);

  const Device& device_;
  Stream to_host_, to_device_;
  int64_t elements_ = 0;  // of a slot
  std::array<Slot, kSlots> slots_;
  size_t next_slot_ = 0;
  std::optional<Part> waiting_;  // on its way, and to be updated next
};

}  // namespace zerostep
