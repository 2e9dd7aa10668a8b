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
  // One round. Collective; does not block, what is passed must live until the compute stream is done. `reads_gradient`: the reduced
  // gradient is needed (of an estimate that it is blended with, too).
  void update(int round, const UpdateScalars& scalars, bool reads_gradient);

 private:
  // The part of a parameter that lies on a rank.
  struct Share {
    int rank;
    FlatLayout::Piece piece;
  };
  const AssignedParameter& parameter(int index) const { return nth(plan_.matrices.parameters, index); }
  const ParameterInfo& info(const AssignedParameter& p) const;
  std::vector<Share> shares_of(const AssignedParameter& p) const;
  void gather_gradients(const MatrixAssignment::Round& round);
  void make_direction(int index, const UpdateScalars& scalars, bool reads_gradient);
  void hand_out(const std::vector<int>& wave, const UpdateScalars& scalars);
  void exchange(const std::vector<Transfer>& transfers, const char* label);

  OptimizerConfig config_;
  const ModelLayout& layout_;
  const Plan& plan_;
  ShardedState& state_;
  Optimizer& optimizer_;
  Lanes& lanes_;
  std::vector<std::vector<Share>> shares_;  // per assigned parameter: on every rank, in rank order
};

}  // namespace zerostep
