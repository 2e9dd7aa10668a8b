#pragma once
#include <memory>
#include <optional>

#include "models/model.h"
#include "offload/host_operands.h"
#include "runtime/config/config.h"
#include "runtime/engine/averaging.h"
#include "runtime/engine/gradient_reducer.h"
#include "runtime/engine/scalar_block.h"
#include "runtime/engine/step_run.h"
#include "runtime/engine/training_plan.h"
#include "runtime/engine/unit_streamer.h"
#include "runtime/engine/unit_weights.h"
#include "runtime/optim/matrix_optimizer.h"
#include "runtime/optim/optimizer.h"
#include "runtime/strategy/make_strategy.h"

namespace zerostep {

// Puts the actions of a step, of an evaluation or of an update on their lanes: which collective, which kernel, which unit of the model.
class ActionLauncher {
 public:
  // What is passed must outlive the object.
  ActionLauncher(const Config& config, const ModelDefinition& model, const TrainingPlan& plan, ShardedState& state,
                 const ScalarBlock& scalars, const Directions& directions, const Strategies& strategies, Lanes& lanes);

  // Asks for the batches of a visit's micro-batch or pass, unless the run holds them, and lets them come to the device.
  void read_batches(const Visit& visit, const SharedRun& run);
  // `update`: what Update actions apply; nullptr: nothing.
  Event launch(const Plan& plan, const Action& action, const SharedRun& run, const std::shared_ptr<PendingUpdate>& update);

 private:
  void update_part(const Action& action, const PendingUpdate& update);
  void copy_checkpoint(const Plan& plan, const Action& action);
  void visit(const Plan& plan, const Action& action, const StepRun& run, const PassBatches& batches);
  StepStrategy& strategy_of(const Visit& visit, const StepRun& run) const;
  std::string name_in_trace(const Plan& plan, const Action& action) const;  // "": there is no trace
  at::Tensor sums_of(const Visit& visit, const StepRun& run) const;

  const Config& config_;
  const TrainingPlan& plan_;
  ShardedState& state_;
  const ScalarBlock& scalars_;
  const Strategies& strategies_;
  Lanes& lanes_;
  Averaging averaging_;
  UnitStreamer streamer_;
  GradientReducer reducer_;
  UnitWeights weights_;
  Optimizer optimizer_;
  MatrixOptimizer matrix_optimizer_;
  std::optional<HostOperands> host_operands_;  // of a GPU
};

}  // namespace zerostep
