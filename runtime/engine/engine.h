#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "models/model.h"
#include "models/objective.h"
#include "runtime/config/config.h"
#include "runtime/engine/gradient_reducer.h"
#include "runtime/engine/scalar_block.h"
#include "runtime/engine/state_access.h"
#include "runtime/engine/step_timers.h"
#include "runtime/engine/training_plan.h"
#include "runtime/engine/unit_streamer.h"
#include "runtime/engine/unit_weights.h"
#include "runtime/memory/memory_meter.h"
#include "runtime/optim/loss_scaler.h"
#include "runtime/optim/matrix_optimizer.h"
#include "runtime/optim/optimizer.h"
#include "runtime/optim/schedule.h"
#include "runtime/state/sharded_state.h"
#include "runtime/state/state_piece.h"
#include "runtime/strategy/directions.h"
#include "runtime/strategy/estimate.h"
#include "runtime/strategy/instruct_schedule.h"
#include "runtime/strategy/step_kind.h"
#include "runtime/strategy/strategy.h"
#include "runtime/strategy/zeroth_order.h"
#include "sharding/communicator.h"

namespace zerostep {

class Evaluate;

struct StepResult {
  // Mean over the valid tokens of the global batch, at the parameters before the update (or see loss_of_pairs). Where the run makes queries
  // it is theirs: a step of backprop alone has one only where both kinds read the same stream, so that the series is of one data set.
  std::optional<double> loss;
  std::optional<double> bp_loss;  // of backprop, where it ran
  double grad_norm = 0;           // before clipping, of what the update follows: a gradient, a blend, or (its expected norm) an estimate
  double lr = 0;
  double loss_scale = 1;  // in force after the step
  bool skipped = false;
  bool stop = false;  // some rank asked for it
  int64_t elements_gathered = 0, elements_reduced = 0;
  int64_t device_peak_bytes = 0;  // highest so far on any rank
  bool loss_of_pairs = false;     // no unperturbed forward was made: the mean over both signs of all directions
  std::vector<double> scalars;    // projected gradients in direction order, when queries were made
  double clip_scale = 1;
  std::optional<double> cosine;           // of the estimate and the backprop gradient, where both were there
  std::optional<double> unchanged_share;  // 16-bit weights that epsilon leaves unchanged, where it was measured
};

// What one step runs on; a mode that has no use for one of them never calls it.
struct StepBatches {
  std::function<Batch(int64_t accumulation_step)> backprop;
  QueryBatches queries;
};

// Steps that changed the parameters: with a gradient of backprop, or by an estimate alone.
struct AppliedSteps {
  int64_t estimate_steps = 0, gradient_steps = 0;
  int64_t all() const { return estimate_steps + gradient_steps; }
};

struct EvaluationResult {
  double loss = 0;
  int64_t tokens = 0;
};

// A rank's part of the parameters and of the optimizer's arrays, as a checkpoint has them: each element on one rank, whatever the stage.
// Without the data.
std::vector<StatePiece> owned_state(const TrainingPlan& plan, int rank);

// Trains one model on one rank of a job: owns its state, executes plans. Ranks call the same methods in the same order; every method
// blocks. A failure names rank, step, unit and operation (RunError), tells the other ranks, and leaves the parameters as the last complete
// step did; where it comes while an update is applied, they can no longer be read.
class Engine {
 public:
  // Collective. `model`, `objective` and `kernels`, which run on the device's streams, must outlive the engine.
  Engine(const Config& config, const ModelDefinition& model, const Objective& objective, TrainingPlan plan, const ParameterReader& initial,
         Communicator world, const Device& device = Device::cpu(), const FlatKernels& kernels = host_kernels());
  ~Engine();

  using MicroBatches = std::function<Batch(int64_t accumulation_step)>;
  // One optimizer step. `stop`: asks all ranks to stop after it.
  StepResult train_step(int64_t step, const StepBatches& batches, bool stop = false);
  StepResult train_step(int64_t step, const MicroBatches& batches, bool stop = false) {
    return train_step(step, StepBatches{batches, {}}, stop);
  }

  // Applies the update of a forward-only step that another run made, from what its log holds. Steps in their order, from 0.
  struct LoggedStep {
    int64_t step;
    double lr, clip_scale;
    std::vector<double> scalars;
    bool skipped;
  };
  void replay(const LoggedStep& logged);

  // Mean loss over the batches that count. Every rank calls with the same number; a rank with nothing left runs a batch that does not
  // count, because it visits every unit with the others.
  struct EvaluationBatch {
    Batch batch;
    bool counts;
  };
  // `outputs`, where it is given, sees what the last unit makes of each batch that counts.
  using OutputObserver = std::function<void(const Batch& batch, const TensorList& outputs)>;
  EvaluationResult evaluate(int64_t num_batches, const std::function<EvaluationBatch(int64_t index)>& batch,
                            const OutputObserver& outputs = {});

  // Collective: the fp32 values of one parameter, on every rank.
  void read_parameter(int unit, int index, std::vector<float>& out);

  // What the next step depends on beside the batches, the parameters and the optimizer's arrays; the same on every rank.
  struct Progress {
    AppliedSteps applied{};
    int64_t skipped_in_a_row = 0;
    DType precision = DType::F32;  // whose loss scale it is
    LossScaler::State loss_scaler{};
    InstructSchedule::State instruct_schedule{};
  };
  Progress progress() const;
  // Copies the pieces of owned_state(plan(), rank) as they are after the last step, piece i to targets[i], with LibTorch's threads.
  // Collective.
  void copy_state(std::span<std::byte* const> targets);
  // Before the first step: goes on where another engine was. `read` gives elements of the optimizer's arrays; this rank asks for those that
  // it updates, no others. (Parameters come with the constructor.)
  void restore(const Progress& progress, const StateReader& read);

  const TrainingPlan& plan() const { return plan_; }
  int rank() const { return world_.rank(); }
  int64_t applied_steps() const { return applied_.all(); }
  // Steps skipped since the last applied one, without those whose overflow lowered a dynamic loss scale. train_step() ends the run with a
  // RunError after kMostSkipped of them.
  static constexpr int64_t kMostSkipped = 20;
  int64_t skipped_in_a_row() const { return skipped_in_a_row_; }
  // The end of a run whose last steps, up to `step`, were skipped. RunError, the same on every rank.
  [[noreturn]] void fail_skipped(int64_t step) const;
  // Bytes on this rank's device now in arenas, and the highest so far with what LibTorch held.
  int64_t arena_bytes() const { return state_.arena_bytes(); }
  int64_t device_peak_bytes() const { return state_.arena_bytes() + meter_.peak_bytes(); }
  const MemoryMeter& meter() const { return meter_; }
  CommCounters comm_counters() const { return world_.counters(); }
  // The highest of the ranks' values. Collective.
  double highest(double value, const char* label) {
    world_.all_reduce_scalars({&value, 1}, ReduceOp::Max, label);
    return value;
  }
  // Sums over the ranks, in rank order. Collective.
  void add_up(std::span<double> values, const char* label) { world_.all_reduce_scalars(values, ReduceOp::Sum, label); }
  StepTimers timers() const { return host_timers_ + compute_timers_; }
  const Trace* trace() const { return trace_.get(); }

 private:
  // Runs the body of a public method and tells the other ranks what it throws. An error that is none of ours gets rank and `what` as well.
  template <typename Body>
  auto guarded(const std::string& what, Body&& body) {
    try {
      return body();
    } catch (const PeerError&) {
      leave_step();
      throw;
    } catch (const std::exception& error) {
      fail_everywhere(what, error);
    }
  }
  [[noreturn]] void fail_everywhere(const std::string& what, const std::exception& error);
  // After a failure: waits for what is on the compute stream. An update that was agreed on may have been applied in part.
  void leave_step() noexcept;
  MeterScope metered() { return MeterScope(meter_, world_.shares_process() ? MeterScope::Threads::Own : MeterScope::Threads::All); }
  StepResult run_step(int64_t step, const StepBatches& batches, bool stop);
  EvaluationResult run_evaluation(int64_t num_batches, const std::function<EvaluationBatch(int64_t index)>& batch,
                                  const OutputObserver& outputs);
  // A step, or a batch of evaluation, while its actions run: what they are given, and what they find.
  struct StepRun {
    int64_t step = 0;
    StepKind kind = {};  // of an evaluation: neither part
    StepBatches batches = {};
    bool stop = false;
    StepResult result = {};
    bool counts = true;                           // of evaluation: its loss is added
    int64_t global_tokens = 0;                    // of backprop
    int held = -1;                                // the micro-batch or the pass of queries whose batches are held; -1: none
    std::shared_ptr<PassBatches> held_batches{};  // one batch, or those of a pass; they come to the device on the compute stream
    std::unique_ptr<Estimate> estimate{};         // the gradient of the update, or a share of it; nullptr: it is the reduced one
  };
  // What the update of a step is, once the ranks have agreed on it.
  struct PendingUpdate {
    UpdateScalars scalars;
    std::unique_ptr<Estimate> estimate;  // to which they point
  };
  using SharedRun = std::shared_ptr<StepRun>;  // with what is on the compute stream
  // Takes the actions in their order, lets the stream of each wait for those that the plan names, and launches it. The host
  // waits where the ranks agree, and at the end. False when they agreed not to apply the step: what follows is left out. No work is under
  // way when it returns.
  bool execute(const Plan& plan, const SharedRun& run);
  void wait_for(const Plan& plan, const Action& action);
  Event launch(const Plan& plan, const Action& action, const SharedRun& run);
  // Launches work on the compute stream, whose tensors count as this rank's.
  Event launch_compute(std::function<void()> work);
  void read_batches(const Visit& visit, const SharedRun& run);
  void visit(const Plan& plan, const Action& action, const StepRun& run, const PassBatches& batches);
  StepStrategy& strategy_of(const Visit& visit, const StepRun& run) const;
  at::Tensor sums_of(const Visit& visit, const StepRun& run) const;
  // What the agreements of a step do; each returns whether the step can still be applied.
  bool agree(Agreement agreement, StepRun& run);
  bool agree_on_gradient(StepRun& run);
  bool agree_on_losses(StepRun& run);
  void agree_on_instruction(StepRun& run);
  void agree_on_estimate(StepRun& run);
  void settle_update(StepRun& run);
  // Applies what a step has left to the next one, for whoever needs the parameters before. Collective.
  void flush();
  void agree_on_maxima(bool stop, StepResult& result);
  void count_skipped(int64_t step, bool applied);
  std::string parameters_left() const;
  // Learning rate of a kind of step, and which state it updates.
  UpdateScalars scalars_of(int64_t step, bool gradient) const;
  double clipped(double norm) const;
  // What of the trained parameters this rank owns, each element on one rank.
  std::vector<OwnedGradient> owned_gradients() const;
  AddOverRanks adder();
  void measure_unchanged(int64_t step, StepResult& result);
  [[noreturn]] void report_non_finite(int64_t step, double local_loss);

  Config config_;
  std::unique_ptr<Objective> query_objective_;  // nullptr: the one that backprop has
  TrainingPlan plan_;
  Communicator world_;
  MemoryMeter meter_;
  std::unique_ptr<Trace> trace_;
  Device device_;
  Stream compute_, stream_;  // kernels, collectives
  ShardedState state_;
  ScalarBlock scalars_;
  StateAccess access_;
  UnitStreamer streamer_;
  GradientReducer reducer_;
  Directions directions_;
  UnitWeights weights_;
  Optimizer optimizer_;
  MatrixOptimizer matrix_optimizer_;
  std::unique_ptr<LrSchedule> schedule_;
  LossScaler scaler_;
  std::unique_ptr<StepStrategy> backprop_;
  std::unique_ptr<Evaluate> evaluation_;
  std::unique_ptr<ZerothOrder> queries_;
  std::vector<Event> done_;                  // of the actions that are executed, by their index
  StepTimers host_timers_, compute_timers_;  // each written by one thread while actions run
  std::shared_ptr<PendingUpdate> pending_;   // agreed on and not applied; nullptr: there is none
  bool has_lost_update_ = false;             // a failure came while one was applied
  AppliedSteps applied_;
  int64_t skipped_in_a_row_ = 0;
  std::string skip_reason_;  // of the last skipped step; "": the loss scale falls
  InstructSchedule instruct_schedule_;
  std::optional<Instruction> instruction_;  // of the step under way
  double unscale_ = 1;                      // of the step's reduced gradients: averaging and loss scale
  // Last, so that no work runs on memory that is gone. A failure was told to the other ranks, so nothing is waited for in vain.
  StreamDrain end_of_stream_{stream_}, end_of_compute_{compute_};
};

}  // namespace zerostep
