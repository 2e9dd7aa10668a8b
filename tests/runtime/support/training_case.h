#pragma once
#include <optional>
#include <vector>

#include "models/gpt2/gpt2.h"
#include "runtime/config/config.h"
#include "runtime/engine/engine.h"

namespace zerostep::testing {

// One small training run: model, configuration and made-up batches that are functions of the sample alone.
struct TrainingCase {
  Gpt2Options model;
  Config config;
  int64_t global_batch = 8, sequence = 12;
  int steps = 3;
  bool with_ignored_labels = true;

  static TrainingCase tiny();
  void set_micro_batch(int64_t micro, int world);
  Batch batch(int64_t step, int64_t accumulation_step, int rank, int world) const;
};

struct TrainingOutcome {
  std::vector<std::optional<double>> losses;  // per step; nothing: the step has no such loss
  std::vector<double> norms, loss_scales;
  std::vector<bool> skipped;
  std::vector<std::vector<float>> parameters;  // fp32 values (masters), in the model's order
  StepResult last;
  int64_t planned_peak = 0, measured_peak = 0;
  int64_t planned_gathered = 0, planned_reduced = 0;
};

// The engine on one rank of `world`.
TrainingOutcome run_engine(const TrainingCase& test, Communicator world);
// The engine on `ranks` threads; rank 0's outcome, after checking that all ranks agree bitwise.
TrainingOutcome run_engine_threads(const TrainingCase& test, int ranks);

// What the stage's definition says, in plain LibTorch on one thread: whole graphs, each rank's gradients apart, sums in rank order, one
// norm partial a rank, the optimizer over whole parameters. No plan, slot, bucket or communicator.
TrainingOutcome run_reference(const TrainingCase& test, int ranks);

}  // namespace zerostep::testing
