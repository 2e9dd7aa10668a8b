#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "base/nth.h"
#include "models/model.h"
#include "runtime/state/lanes.h"
#include "runtime/state/sharded_state.h"

namespace zerostep {

// The model's units over parameters that come and go. Each flat group is one storage; a visit points the storage at where the group's
// values are, a slot or where they rest, and every parameter view (and what autograd saved of it) follows. Gradients likewise: each
// parameter's .grad is a view of an fp32 storage that is pointed at a ring slot, or at the group's own buffer (unless contiguous_gradients
// is false). Outside visits the storages are empty. The plan says which slot a visit reads, and who waits for whom.
class UnitStreamer {
 public:
  // What is passed must outlive the object.
  UnitStreamer(const ModelDefinition& model, const ShardedState& state, Lanes& lanes);

  // Enqueues the all-gather of a group's shards into a parameter slot. `has_shard`: this rank's part is there already.
  Event gather(int group, int slot, bool has_shard);
  // Enqueues the copy of this rank's shard from where it rests to its place in a parameter slot, and back.
  Event bring_shard(int group, int slot, Stream& stream);
  Event return_shard(int group, int slot, Stream& stream);
  // Enqueues the all-gather of updated parts into whole parameters.
  Event gather_updated(const std::vector<CollectivePart>& parts, bool all_gather);

  // Points the tensors of a group at values of its compute type (nullptr: at nothing).
  void bind(int group, void* values) const { point(nth(groups_, group).flat, values); }
  // Points the gradient storage of a group at `target` (full_elements() fp32 values); `fresh` as in mark_gradients().
  void bind_gradient(int group, float* target, bool fresh);
  // contiguous_gradients false: what the backward left in the .grad of a parameter (`index` within the group; undefined: nothing).
  at::Tensor take_gradient(int group, int index);

  Unit& unit(int index) { return *nth(units_, index); }
  // The parameter's tensor; its data is valid within a visit.
  const at::Tensor& parameter(int unit, int index) const;

 private:
  struct GroupTensors {
    at::Tensor flat, flat_gradient;
    std::vector<at::Tensor> parameters;
  };
  void make_units(const ModelDefinition& model);
  void point(const at::Tensor& flat, void* data) const;
  struct ShardSlice {
    std::byte *at_rest, *in_slot;
    int64_t count;
  };
  // This rank's part of each slice of a group.
  std::vector<ShardSlice> shard_slices(int group, int slot) const;

  const ModelLayout& layout_;
  const ShardedState& state_;
  Lanes& lanes_;
  std::vector<GroupTensors> groups_;
  std::vector<std::unique_ptr<Unit>> units_;
};

}  // namespace zerostep
