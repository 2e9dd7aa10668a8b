#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "base/nth.h"
#include "base/trace.h"
#include "models/model.h"
#include "runtime/plan/plan.h"
#include "runtime/state/sharded_state.h"
#include "sharding/communicator.h"

namespace zerostep {

// The model's units over parameters that come and go. Each flat group is one storage; gathering a group points the storage at its slot and
// every parameter view (and what autograd saved of it) follows. Gradients likewise: each parameter's .grad is a view of an fp32 storage
// that is pointed at a ring slot, or at the group's own buffer (unless contiguous_gradients is false). Protocol, checked: gather(group,
// slot) -> acquire(visits that read it) -> release(group). A released group's storage is empty. The plan says who waits for whom.
class UnitStreamer {
 public:
  UnitStreamer(const ModelDefinition& model, const ModelLayout& layout, const Plan& plan, ShardedState& state, Communicator shard_group,
               Stream stream, Trace* trace);

  // Enqueues the all-gather of a group's shards into a parameter slot.
  Event gather(int group, int slot);
  // ProtocolError when what a visit reads was never gathered.
  void acquire(const Action& visit) const;
  void release(int group);
  // Enqueues the all-gather of updated parts into whole parameters.
  Event gather_updated(const std::vector<CollectivePart>& parts, bool all_gather);

  // A group's parameters as they rest: whole, or in the slot into which they were gathered (then while it is live).
  void* at_rest(int group) const;
  // Points the tensors of a group at values of its compute type, or back at the parameters at rest (at nothing, where these have another
  // type).
  void bind_copy(int group, void* values) const { point(nth(groups_, group).flat, values); }
  void bind_at_rest(int group) const;

  // Points the gradient storage of a group at `target` (full_elements() fp32 values); `fresh` as in mark_gradients().
  void bind_gradient(int group, float* target, bool fresh);
  // contiguous_gradients false: what the backward left in the .grad of a parameter (`index` within the group; undefined: nothing).
  at::Tensor take_gradient(int group, int index);

  Unit& unit(int index) { return *nth(units_, index); }
  // The parameter's tensor; its data is valid while its group is live.
  const at::Tensor& parameter(int unit, int index) const;

 private:
  enum class GroupPhase : uint8_t { Released, Gathered };
  struct GroupTensors {
    at::Tensor flat, flat_gradient;
    void* at_rest = nullptr;
    std::vector<at::Tensor> parameters;
    GroupPhase phase = GroupPhase::Released;
  };
  void point(const at::Tensor& flat, void* data) const;

  const ModelLayout& layout_;
  const Plan& plan_;
  ShardedState& state_;
  Communicator shard_group_;
  Stream stream_;
  Trace* trace_;
  std::vector<GroupTensors> groups_;
  std::vector<std::unique_ptr<Unit>> units_;
};

}  // namespace zerostep
