#pragma once
#include <vector>

#include "base/nth.h"
#include "runtime/config/config.h"
#include "runtime/optim/optimizer.h"
#include "runtime/state/lanes.h"
#include "runtime/state/sharded_state.h"

namespace zerostep {

// Muon and MuDaMW on parameters that are assigned to ranks whole (MatrixAssignment). The owner of one has its momentum, makes its direction
// and gives it to the ranks that hold the weights; each steps along it on its own part. Reduced gradients travel to owners where they are
// in shards; an estimate is made by the owner.
class MatrixOptimizer {
 public:
  // What is passed must outlive the object. `optimizer` steps along the directions.
  MatrixOptimizer(const OptimizerConfig& config, ShardedState& state, Optimizer& optimizer, Lanes& lanes);
  // Of a round's GatherMatrices or a wave's ScatterMatrixUpdates: the exchange, on the communication stream. Collective; does not block.
  Event exchange(const Action& action);
  // Of a round's MakeMatrixUpdates or a wave's ApplyMatrixUpdates, within work of the compute stream. An action that reads_gradient needs
  // the reduced one, of an estimate that it is blended with, too.
  void update(const Action& action, const UpdateScalars& scalars);

 private:
  // The part of a parameter that lies on a rank.
  struct Share {
    int rank;
    FlatLayout::Piece piece;
  };
  const AssignedParameter& parameter(int index) const { return nth(plan_.matrices.parameters, index); }
  const ParameterInfo& info(const AssignedParameter& p) const;
  std::vector<Share> shares_of(const AssignedParameter& p) const;
  std::vector<Transfer> gradients_to_owners(const Action& action) const;
  std::vector<Transfer> updates_to_holders(const Action& action) const;
  void make_update(int index, const UpdateScalars& scalars, bool reads_gradient);
  // Calls use(parameter, share, where its owner makes it, where it arrives) for each share of a wave's matrices. nullptr: it is the
  // owner's, and stays.
  template <typename Use>
  void for_each_share(const Action& wave, const Use& use) const;

  OptimizerConfig config_;
  const ModelLayout& layout_;
  const Plan& plan_;
  ShardedState& state_;
  Optimizer& optimizer_;
  Lanes& lanes_;
  std::vector<std::vector<Share>> shares_;  // per assigned parameter: on every rank, in rank order
};

}  // namespace zerostep
