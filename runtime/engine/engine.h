#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "models/objective.h"
#include "models/unit.h"
#include "runtime/config/config.h"
#include "runtime/engine/gradient_reducer.h"
#include "runtime/engine/sharded_state.h"
#include "runtime/engine/step_timers.h"
#include "runtime/engine/training_plan.h"
#include "runtime/engine/unit_streamer.h"
#include "runtime/memory/memory_meter.h"
#include "runtime/optim/loss_scaler.h"
#include "runtime/optim/optimizer.h"
#include "runtime/optim/schedule.h"
#include "runtime/strategy/strategy.h"
#include "sharding/communicator.h"

namespace zerostep {

// Values [begin, begin + count) of a parameter, as they are before the first step.
using ParameterReader = std::function<void(const ParameterInfo& parameter, int64_t begin, int64_t count, float* out)>;

struct StepResult {
  double loss = 0;       // mean over the valid tokens of the global batch, at the parameters before the update
  double grad_norm = 0;  // before clipping
  double lr = 0;
  double loss_scale = 1;  // in force after the step
  bool skipped = false;
  bool stop = false;  // some rank asked for it
  int64_t elements_gathered = 0, elements_reduced = 0;
  int64_t device_peak_bytes = 0;  // highest so far on any rank
};

struct EvaluationResult {
  double loss = 0;
  int64_t tokens = 0;
};

// Trains one model on one rank of a job: owns its state, executes plans. Ranks call the same methods in the same order; every method
// blocks. A failure names rank, step, unit and operation (RunError), tells the other ranks, and leaves the parameters as the last complete
// step did.
class Engine {
 public:
  // Collective. `model` and `objective` must outlive the engine.
  Engine(const Config& config, const ModelDefinition& model, const Objective& objective, TrainingPlan plan, const ParameterReader& initial,
         Communicator world);
  ~Engine();

  using MicroBatches = std::function<Batch(int64_t accumulation_step)>;
  // One optimizer step. `stop`: asks all ranks to stop after it.
  StepResult train_step(int64_t step, const MicroBatches& batches, bool stop = false);

  // Mean loss over the batches that count. Every rank calls with the same number; a rank with nothing left runs a batch that does not
  // count, because it visits every unit with the others.
  struct EvaluationBatch {
    Batch batch;
    bool counts;
  };
  EvaluationResult evaluate(int64_t num_batches, const std::function<EvaluationBatch(int64_t index)>& batch);

  // Collective: the fp32 values of one parameter, on every rank.
  void read_parameter(int unit, int index, std::vector<float>& out);

  const TrainingPlan& plan() const { return plan_; }
  int64_t applied_steps() const { return applied_steps_; }
  // Bytes on this rank's device now in arenas, and the highest so far with what LibTorch held.
  int64_t arena_bytes() const { return state_.arena_bytes(); }
  int64_t device_peak_bytes() const { return state_.arena_bytes() + meter_.peak_bytes(); }
  const MemoryMeter& meter() const { return meter_; }
  CommCounters comm_counters() const { return world_.counters(); }
  const StepTimers& timers() const { return timers_; }
  const Trace* trace() const { return trace_.get(); }
  LossScaler& loss_scaler() { return scaler_; }

 private:
  void load(const ParameterReader& initial);
  void execute(const Plan& plan, StepStrategy& strategy, int64_t step, bool training, const MicroBatches& batches);
  void visit(const Plan& plan, const Action& action, StepStrategy& strategy, int64_t step, bool training, const Batch& batch);
  bool agree_on_scalars(int64_t step, StepStrategy& strategy, int64_t global_tokens, bool stop, StepResult& result);
  [[noreturn]] void report_non_finite(int64_t step, double local_loss);
  void update(const Action& action);

  Config config_;
  const ModelDefinition& model_;
  const Objective& objective_;
  TrainingPlan plan_;
  Communicator world_;
  MemoryMeter meter_;
  std::unique_ptr<Trace> trace_;
  Stream stream_;  // collectives
  ShardedState state_;
  UnitStreamer streamer_;
  GradientReducer reducer_;
  Optimizer optimizer_;
  std::unique_ptr<LrSchedule> schedule_;
  LossScaler scaler_;
  std::unique_ptr<StepStrategy> strategy_, evaluation_;
  StepTimers timers_;
  int64_t applied_steps_ = 0;
  // Of the step under way.
  UpdateScalars update_scalars_;
  bool apply_update_ = false;
};

}  // namespace zerostep
