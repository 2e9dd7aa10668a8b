#pragma once
#include <vector>

#include "runtime/engine/unit_streamer.h"
#include "runtime/state/sharded_state.h"
#include "runtime/strategy/directions.h"
#include "runtime/strategy/strategy.h"

namespace zerostep {

// Weights of the visited unit, made into the planned copies: plain (where the compute type is another than that at rest) or perturbed. The
// weights at rest are never touched.
class UnitWeights final : public BranchWeights {
 public:
  // What is passed must outlive the object.
  UnitWeights(const ShardedState& state, UnitStreamer& streamer, const Directions& directions);
  // The unit's parameters are where the action says; it computes with its plain weights from here on.
  void enter(const Visit& visit, const Action& action, int64_t step);
  // Of an instructed step: the reduced gradient of each group of used_by(), while the unit is visited.
  void set_gradients(std::vector<const float*> gradients) { gradients_ = std::move(gradients); }
  // The unit's tensors point at nothing again.
  void leave();
  // Of a slot that nobody reads any more: it is filled with NaNs, where the build asks for it.
  void poison(int group, int slot) const;

  void use_plain() override;
  void perturb(int64_t direction, bool plus, bool minus) override;
  void use(Sign sign) override;
  BranchPerturbation low_rank(std::span<const ProbeBranch> branches) override;
  BranchPerturbation tiled(int64_t direction, bool plus, bool minus) override;

 private:
  // Calls use(parameter, fp32 values at rest or nullptr, trained) for each parameter that the unit computes with: own ones, then borrowed
  // ones.
  template <typename Use>
  void for_each_parameter(const Use& use) const;
  const ModelLayout& layout_;
  const ShardedState& state_;
  UnitStreamer& streamer_;
  const Directions& directions_;
  int64_t step_ = 0;
  int unit_ = -1;
  std::vector<int> groups_;
  std::vector<std::byte*> values_;       // of each group, as they rest or were gathered; nullptr: the visit reads none
  std::vector<const float*> gradients_;  // empty: not instructed
  std::vector<int64_t> offsets_;         // of each group in a copy
  int64_t copy_bytes_ = 0;
  bool minus_second_ = false;  // the minus copy lies behind the plus copy
};

}  // namespace zerostep
