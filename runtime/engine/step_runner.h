#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/gpu_load.h"
#include "runtime/config/config.h"
#include "runtime/engine/action_launcher.h"
#include "runtime/engine/executor.h"
#include "runtime/engine/step_run.h"
#include "runtime/optim/loss_scaler.h"
#include "runtime/optim/schedule.h"
#include "runtime/strategy/instruct_schedule.h"
#include "runtime/strategy/instruction.h"

namespace zerostep {

// Steps that changed the parameters: with a gradient of backprop, or by an estimate alone.
struct AppliedSteps {
  int64_t estimate_steps = 0, gradient_steps = 0;
  int64_t all() const { return estimate_steps + gradient_steps; }
};

// What the next step depends on beside the batches, the parameters and the optimizer's arrays; the same on every rank.
struct TrainingProgress {
  AppliedSteps applied{};
  int64_t skipped_in_a_row = 0;
  DType precision = DType::F32;  // whose loss scale it is
  LossScaler::State loss_scaler{};
  InstructSchedule::State instruct_schedule{};
};

// An update of a forward-only step that another run made, from what its log holds.
struct LoggedStep {
  int64_t step;
  double lr, clip_scale;
  std::vector<double> scalars;
  bool skipped;
};

// Runs the lists of a training plan, each kind of step by its own: what the ranks agree on within them, what follows for the update, the
// loss scale and the schedules, and which update is agreed on and not applied yet. Ranks call the same methods in the same order.
class StepRunner final : private ActionRunner {
 public:
  // What is passed must outlive the object.
  StepRunner(const Config& config, const TrainingPlan& plan, ShardedState& state, ScalarBlock& scalars, Directions& directions,
             const Strategies& strategies, ActionLauncher& launcher, Lanes& lanes);

  // One optimizer step.
  StepResult train_step(int64_t step, const StepBatches& batches, bool stop);
  // One batch of evaluation: its loss is added to the block of scalars where it `counts`.
  void evaluate_batch(int64_t index, const Batch& batch, bool counts);
  // Applies what a step has left to the next one, for whoever needs the parameters before. Collective. No work is under way afterwards.
  void flush();
  // Blocks until the work of all steps is done; rethrows what it threw.
  void settle() {
    executor_.settle(*this);
    is_applying_ = false;
  }
  void replay(const LoggedStep& logged);

  TrainingProgress progress() const;
  void restore(const TrainingProgress& progress);
  // After a failure: waits for what is on the streams but that of communication, which may wait for ranks that are gone. An update that was
  // agreed on may have been applied in part.
  void leave_step() noexcept;
  // What an error of the work says; of memory of a GPU that ends, what was needed, planned and there.
  std::string text_of(const std::exception& error) const;

  // Steps skipped since the last applied one, without those whose overflow lowered a dynamic loss scale; kMostSkipped of them end the run.
  static constexpr int64_t kMostSkipped = 20;
  [[noreturn]] void fail_skipped(int64_t step) const;

 private:
  void prepare(const Plan& plan, const Action& action) override;
  Event launch(const Plan& plan, const Action& action) override;
  bool agree(const Plan& plan, const Action& action) override;
  void explain(const Plan& plan, const Action& action, bool is_of_list_before, const std::exception& error) override;

  // False when the ranks agreed not to apply the step.
  bool execute(const Plan& plan, const SharedRun& run);
  // What the agreements of a step do; the first two return whether the step can still be applied.
  bool agree_on_gradient(StepRun& run);
  bool agree_on_losses(StepRun& run);
  void agree_on_instruction(StepRun& run);
  void agree_on_estimate(StepRun& run);
  void agree_on_maxima(StepRun& run);
  // Waits for all that stands before the agreement, the update of the step before or its own too.
  void read_scalars();
  AddOverRanks adder();
  // What the update of a step is. Called when all that it depends on is known: before the step where it stands in the backward, else when
  // the ranks have agreed.
  std::shared_ptr<PendingUpdate> settled_update(StepRun& run) const;
  // Learning rate of a kind of step, and which state it updates.
  UpdateScalars scalars_of(int64_t step, bool gradient) const;
  double clipped(double norm) const;
  void count_skipped(int64_t step, bool applied);
  std::string parameters_left() const;
  [[noreturn]] void report_non_finite(int64_t step, double local_loss);
  // Name of the first group with a gradient that is not finite in this rank's share, or "".
  std::string non_finite_group();

  const Config& config_;
  const TrainingPlan& plan_;
  ShardedState& state_;
  ScalarBlock& scalars_;
  Directions& directions_;
  const Strategies& strategies_;
  ActionLauncher& launcher_;
  Lanes& lanes_;
  Executor executor_;
  std::unique_ptr<LrSchedule> schedule_;
  LossScaler scaler_;
  InstructSchedule instruct_schedule_;
  SharedRun run_;                              // under way
  SharedRun last_run_, run_before_;            // that and the one before, or the last two
  std::shared_ptr<PendingUpdate> pending_;     // agreed on and not applied; nullptr: there is none
  std::shared_ptr<PendingUpdate> own_update_;  // of the step under way, where it stands in the backward
  bool is_applying_ = false;                   // one of them is being applied: on a GPU until the host has waited for it
  bool has_lost_update_ = false;               // a failure came while one was applied
  AppliedSteps applied_;
  int64_t skipped_in_a_row_ = 0;
  std::string skip_reason_;                 // of the last skipped step; "": the loss scale falls
  std::optional<Instruction> instruction_;  // of the step under way
  std::optional<GpuMeter> gpu_load_;        // of this rank's GPU
  double unscale_ = 1;                      // of the step's reduced gradients: averaging and loss scale
};

}  // namespace zerostep
