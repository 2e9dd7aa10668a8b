#pragma once
#include <memory>
#include <vector>

#include "base/device.h"
#include "base/nth.h"
#include "runtime/plan/plan.h"
#include "sharding/communicator.h"

namespace zerostep {

// Everything that outlives a step, in arenas of exactly the planned size: parameters or their shards, fp32 masters, gradients, optimizer
// state, and the rings of slots. Owned by one rank; freed together.
class ShardedState {
 public:
  // Collective (operands of collectives lie in the communicator's memory, the rest in the device's). All zero.
  ShardedState(const ModelLayout& layout, const Plan& plan, Communicator shard_group, const Device& device);

  // How one group's buffers are addressed. "Whole" buffers hold full_elements() and are indexed by full_offset, shards by shard_offset.
  struct Group {
    void* parameters = nullptr;  // compute type; whole or shard
    bool parameters_whole = false;
    float* masters = nullptr;    // of 16-bit parameters (unless they go without); else the parameters are their own masters
    float* gradients = nullptr;  // whole or shard; nullptr when frozen, or without backprop
    bool gradients_whole = false;
    float* optimizer_state = nullptr;  // `optimizer_state_values` arrays one after the other; of assigned groups, matrices() has it
    bool update_whole = false;         // masters and state
  };
  const Group& group(int id) const { return nth(groups_, id); }
  void* parameter_slot(int ring, int slot) const { return slot_of(parameter_slots_, ring, slot); }
  float* gradient_slot(int ring, int slot) const { return static_cast<float*>(slot_of(gradient_slots_, ring, slot)); }
  void* message() const { return message_; }
  std::byte* copies() const { return copies_; }  // of one visit's weights

  // Of assigned parameters (MatrixAssignment says where in them).
  struct Matrices {
    float* optimizer_state = nullptr;  // arrays of state_elements, one after the other
    float* work = nullptr;
    float* results = nullptr;
    float* scratch = nullptr;
  };
  const Matrices& matrices() const { return matrices_; }

  // A contiguous run of elements that this rank updates, in every addressing.
  struct Piece {
    int parameter;                                       // index within the group
    int64_t parameter_offset, full_offset, part_offset;  // part: masters, optimizer state (full_offset when updated whole)
    int64_t count;
  };
  // In layout order; the union over ranks covers every element (each rank all of them when updated whole).
  const std::vector<Piece>& pieces(int id) const { return nth(pieces_, id); }
  // This rank's share of a group by the layout, whatever the stage: each element on one rank (norms, exports).
  const std::vector<FlatLayout::Piece>& owned(int id) const { return nth(owned_, id); }

  float* master_at(int id, const Piece& piece) const;     // fp32 values to update
  float* gradient_at(int id, const Piece& piece) const;   // reduced gradients
  void* parameters_at(int id, const Piece& piece) const;  // in the group's type

  int64_t arena_bytes() const { return communicated_.used_bytes() + private_.used_bytes(); }

 private:
  struct Slots {
    std::byte* data = nullptr;
    int64_t stride = 0;
    int count = 0;
  };
  static void* slot_of(const std::vector<Slots>& rings, int ring, int slot);
  void* take(const PlannedBuffer& buffer);

  const ModelLayout& layout_;
  Arena communicated_, private_;
  std::vector<Group> groups_;
  std::vector<Slots> parameter_slots_, gradient_slots_;
  void* message_ = nullptr;
  std::byte* copies_ = nullptr;
  Matrices matrices_;
  std::vector<std::vector<Piece>> pieces_;
  std::vector<std::vector<FlatLayout::Piece>> owned_;
};

}  // namespace zerostep
