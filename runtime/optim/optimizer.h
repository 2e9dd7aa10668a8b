#pragma once
#include <vector>

#include "runtime/config/config.h"
#include "runtime/engine/sharded_state.h"
#include "runtime/optim/schedule.h"

namespace zerostep {

// What one update needs beside the state.
struct UpdateScalars {
  ScheduledValues scheduled;
  float gradient_scale = 1;   // averaging, loss scale and clipping in one factor
  int64_t applied_steps = 0;  // before this one
};

// Element-wise optimizers over the pieces that a rank owns: fused host kernels, one fixed sequence of operations an element, so results do
// not depend on stage, slice or thread.
class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, const ModelLayout& layout, ShardedState& state);
  // fp32 values that the optimizer keeps for each element.
  static int state_values(const OptimizerConfig& config);
  // Updates the elements [begin, end) of this rank's part of a group.
  void update(int group, int64_t begin, int64_t end, const UpdateScalars& scalars);

 private:
  struct Hyperparameters {
    float lr_factor, weight_decay;
  };
  OptimizerConfig config_;
  const ModelLayout& layout_;
  ShardedState& state_;
  std::vector<std::vector<Hyperparameters>> hyperparameters_;  // per group and parameter
};

}  // namespace zerostep
