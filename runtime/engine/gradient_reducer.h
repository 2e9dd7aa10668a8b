#pragma once
#include <vector>

#include "runtime/engine/scalar_block.h"
#include "runtime/engine/unit_streamer.h"
#include "runtime/state/lanes.h"
#include "runtime/state/sharded_state.h"

namespace zerostep {

// Gradients from autograd's accumulation to reduced sums: points each parameter's .grad at its buffer, clears what must be clear, reduces
// complete buckets on the communication stream, and takes this rank's share of the squared norm as soon as a bucket is reduced.
class GradientReducer {
 public:
  // `message_factor`: what gradients are multiplied by before they travel in 16 bits. What is passed must outlive the object.
  GradientReducer(const ShardedState& state, UnitStreamer& streamer, const ScalarBlock& scalars, double message_factor, Lanes& lanes);

  // Before a backward: binds the unit's gradients, and marks them as fresh where the backward may overwrite those that its unit declares
  // as overwritten; else all are sums or zeros to add to.
  void bind(const std::vector<GradientUse>& uses, int unit);
  // After the backward, where it made gradients of its own (contiguous_gradients false): adds them to their buffers and drops them.
  void collect(const std::vector<GradientUse>& uses);
  // Enqueues one reduction.
  Event reduce(const Action& action);
  // Enqueues the all-gather of a group's reduced gradient into a ring slot (-1: into the group's own buffer).
  Event gather(int group, int slot);
  // full_elements() values of a group as reduced, before averaging: what was gathered, or what every rank has whole already.
  const float* gathered(const GroupSlot& gradient) const { return sums_at(gradient.group, gradient.slot); }
  // A single rank's sums need no reduction: takes their squared norms, on the compute stream.
  void square_sums();

 private:
  // Whether a backward of `unit` overwrites the fresh gradient of a parameter of `g` (its own, or one that it borrows).
  bool overwrites(int unit, const FlatGroup& g, int parameter) const;
  void clear(const GradientUse& use, int unit, bool overwrite);
  float* sums_at(int group, int slot) const;  // of a ring; -1: the group's own buffer
  void reduce_fp32(const Action& action, const char* label);
  void reduce_16bit(const Action& action, const char* label);
  void add_own_part(const Action& action);
  void square(int group, const Stream& stream);  // this rank's part, so that each element counts on one rank

  const ModelLayout& layout_;
  const PlanOptions& options_;
  const ShardedState& state_;
  UnitStreamer& streamer_;
  const ScalarBlock& scalars_;
  float message_factor_;
  Lanes& lanes_;
};

}  // namespace zerostep
