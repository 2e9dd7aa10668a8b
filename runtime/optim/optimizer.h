#pragma once
#include <vector>

#include "offload/host_optimizer.h"
#include "runtime/config/config.h"
#include "runtime/optim/schedule.h"
#include "runtime/state/gradient_source.h"
#include "runtime/state/sharded_state.h"

namespace zerostep {

// What one update needs beside the state.
struct UpdateScalars {
  ScheduledValues scheduled;
  float gradient_scale = 1;   // averaging, loss scale and clipping in one factor
  int64_t applied_steps = 0;  // before this one (with the state's set)
  int state_set = 0;          // of several that the state holds
  int64_t step = 0;           // keys stochastic rounding
};

// Element-wise optimizers over the pieces that a rank owns: fused host kernels, one fixed sequence of operations an element, so results do
// not depend on stage, slice or thread.
class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, const ModelLayout& layout, ShardedState& state, uint64_t seed);
  // fp32 values that the optimizer keeps for each element.
  static int state_values(const OptimizerConfig& config);
  // ... for each element of a parameter that is assigned to a rank whole.
  static int matrix_state_values(const OptimizerConfig& config);
  // Updates the elements [begin, end) of this rank's part of a group, with the reduced gradient or with what `source` makes; of an assigned
  // group `source` has the direction to step along. 16-bit parameters without masters are rounded stochastically.
  void update(int group, int64_t begin, int64_t end, const UpdateScalars& scalars, GradientSource* source = nullptr);

 private:
  struct Hyperparameters {
    float lr_factor, weight_decay;
  };
  struct Run;  // contiguous elements of one parameter in one update
  void step_slice(const Run& run, OptimizerSlice slice, int64_t at) const;
  double direction_scale(const Run& run) const;
  void step_blocks(const Run& run, int64_t first, int64_t last) const;
  OptimizerConfig config_;
  uint64_t seed_;
  const ModelLayout& layout_;
  ShardedState& state_;
  std::vector<std::vector<Hyperparameters>> hyperparameters_;  // per group and parameter
};

}  // namespace zerostep
