#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine/state_access.h"
#include "runtime/engine/step_runner.h"
#include "runtime/state/state_piece.h"
#include "sharding/lent_staging.h"

namespace zerostep {

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
  // Collective. `world` moves what lies in the device's memory. `model` and `objective` must outlive the engine.
  Engine(const Config& config, const ModelDefinition& model, const Objective& objective, TrainingPlan plan, const ParameterReader& initial,
         Communicator world, const Device& device = Device::cpu());

  using MicroBatches = std::function<Batch(int64_t accumulation_step)>;
  // One optimizer step. `stop`: asks all ranks to stop after it.
  StepResult train_step(int64_t step, const StepBatches& batches, bool stop = false);
  StepResult train_step(int64_t step, const MicroBatches& batches, bool stop = false) {
    return train_step(step, StepBatches{batches, {}}, stop);
  }

  // Applies the update of a forward-only step that another run made. Steps in their order, from 0.
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

  TrainingProgress progress() const { return runner_.progress(); }
  // Copies the pieces of owned_state(plan(), rank) as they are after the last step, piece i to targets[i], with LibTorch's threads.
  // Collective.
  void copy_state(std::span<std::byte* const> targets);
  // Before the first step: goes on where another engine was. `read` gives elements of the optimizer's arrays; this rank asks for those that
  // it updates, no others. (Parameters come with the constructor.)
  void restore(const TrainingProgress& progress, const StateReader& read);

  const TrainingPlan& plan() const { return plan_; }
  int rank() const { return lanes_.group.rank(); }
  // The end of a run whose last steps, up to `step`, were skipped. RunError, the same on every rank.
  [[noreturn]] void fail_skipped(int64_t step) const { runner_.fail_skipped(step); }
  // Bytes that this rank's arenas of a tier hold, those of its kernels among them.
  int64_t arena_bytes(Tier tier = Tier::Device) const {
    return state_.arena_bytes(tier) + (tier == Tier::Device ? lanes_.kernels.scratch_bytes() : 0);
  }
  // Bytes that this rank has in files.
  int64_t file_bytes() const { return state_.store().file_bytes(); }
  // How files are read and written, for the log; "": there are none.
  std::string describe_files() const { return state_.store().describe_files(); }
  // The highest so far of what arenas and LibTorch hold on this rank's device.
  int64_t device_peak_bytes() const { return arena_bytes() + tensor_memory().peak_bytes; }
  TensorMemory tensor_memory() const { return lanes_.tensor_memory(); }
  const MemoryMeter& meter() const { return meter_; }
  CommCounters comm_counters() const { return lanes_.group.counters(); }
  // The highest of the ranks' values. Collective.
  double highest(double value, const char* label) {
    lanes_.group.all_reduce_scalars({&value, 1}, ReduceOp::Max, label);
    return value;
  }
  // Sums over the ranks, in rank order. Collective.
  void add_up(std::span<double> values, const char* label) { lanes_.group.all_reduce_scalars(values, ReduceOp::Sum, label); }
  // Of the last step. On a GPU where the configuration asks for a breakdown or a profile, and what was not done when the step returned
  // counts for the next one.
  StepTimers timers() const { return lanes_.timers(); }
  // Between two steps: waits until a GPU is through with them, and throws what has failed. timers() and trace() tell all of it then.
  void settle();
  const Trace* trace() const { return trace_.get(); }

 private:
  // Runs the body of a public method and tells the other ranks what it throws. An error that is none of ours gets rank and `what` as well.
  template <typename Body>
  auto guarded(const std::string& what, Body&& body) {
    try {
      return body();
    } catch (const PeerError&) {
      runner_.leave_step();
      throw;
    } catch (const std::exception& error) {
      fail_everywhere(what, error);
    }
  }
  [[noreturn]] void fail_everywhere(const std::string& what, const std::exception& error);
  EvaluationResult run_evaluation(int64_t num_batches, const std::function<EvaluationBatch(int64_t index)>& batch,
                                  const OutputObserver& outputs);

  Config config_;
  TrainingPlan plan_;
  MemoryMeter meter_;
  std::unique_ptr<Trace> trace_;
  Lanes lanes_;
  ShardedState state_;
  LentStaging lent_;  // of state_
  ScalarBlock scalars_;
  StateAccess access_;
  Directions directions_;
  Strategies strategies_;
  ActionLauncher launcher_;
  StepRunner runner_;
  // Last, so that no work runs on memory that is gone. A failure was told to the other ranks, so nothing is waited for in vain.
  StreamDrain end_of_reads_{lanes_.file_read}, end_of_writes_{lanes_.file_write}, end_of_communication_{lanes_.communication},
      end_of_stores_{lanes_.device_to_host}, end_of_loads_{lanes_.host_to_device}, end_of_compute_{lanes_.compute};
};

}  // namespace zerostep
