#pragma once
#include <functional>
#include <vector>

#include "offload/flat_operands.h"
#include "runtime/config/config.h"
#include "runtime/optim/schedule.h"
#include "runtime/state/sharded_state.h"

namespace zerostep {

// What one update needs beside the state.
struct UpdateScalars {
  ScheduledValues scheduled;
  float gradient_scale = 1;   // averaging, loss scale and clipping in one factor
  int64_t applied_steps = 0;  // before this one (with the state's set)
  int state_set = 0;          // of several that the state holds
  int64_t step = 0;           // keys stochastic rounding
  Gradient gradient = {};     // what the update follows; where the reduced gradient lies is filled in for each piece
};

// Element-wise optimizers over the pieces that a rank owns: fused kernels, one fixed sequence of operations an element, so results do
// not depend on stage, slice or thread.
class Optimizer {
 public:
  // What is passed must outlive the object.
  Optimizer(const OptimizerConfig& config, ShardedState& state, uint64_t seed);
  // fp32 values that the optimizer keeps for each element.
  static int state_values(const OptimizerConfig& config);
  // ... for each element of a parameter that is assigned to a rank whole.
  static int matrix_state_values(const OptimizerConfig& config);
  // What makes the update of a piece.
  using Kernel = std::function<void(const PieceUpdate& update, const OptimizerFormula& formula)>;
  // The elements [begin, end) of this rank's part of a group, whose parameters are where they rest or (slot >= 0) in a slot of its ring.
  struct Part {
    int group;
    int64_t begin, end;
    int slot = -1;
  };
  // Updates them. 16-bit parameters without masters are rounded stochastically. `direction`: of an assigned group, along which it steps;
  // its values for these elements.
  void update(const Part& part, const UpdateScalars& scalars, const Kernel& kernel, const float* direction = nullptr);

 private:
  struct Hyperparameters {
    float lr_factor, weight_decay;
  };
  OptimizerFormula formula(double lr, const UpdateScalars& scalars) const;
  double direction_scale(const ParameterInfo& parameter, const UpdateScalars& scalars) const;
  OptimizerConfig config_;
  uint64_t seed_;
  const ModelLayout& layout_;
  ShardedState& state_;
  std::vector<std::vector<Hyperparameters>> hyperparameters_;  // per group and parameter
};

}  // namespace zerostep
