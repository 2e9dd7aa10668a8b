#pragma once
#include <functional>
#include <string>
#include <vector>

#include "runtime/engine/step_traffic.h"
#include "tests/runtime/support/training_case.h"

namespace zerostep::testing {

// A small run of a mode that makes queries. Micro-batches hold two samples at every world size, so that the forward passes themselves do
// not depend on it.
struct ZerothOrderCase : TrainingCase {
  using Mode = StepConfig::Mode;
  static constexpr int64_t kMicroBatch = 2;

  static ZerothOrderCase tiny(Mode mode = Mode::ZerothOrder);
  // The shares of `world` ranks, from step.direction_parallel.
  void share_over(int world);
  // Micro-batch of global batch `index` of the stream of the queries; every batch has tokens of its own.
  Batch query_batch(int64_t index, int64_t micro_batch, int rank, int ranks) const;
  // Index of the batch that a direction is probed on.
  int64_t query_index(int64_t step, int64_t direction) const;
  StepBatches batches(int64_t step, int rank, int world) const;
  std::string name() const;
};

// Stands in a series for a step without such a loss.
constexpr double kNoLoss = -1;

struct ZerothOrderOutcome : TrainingOutcome {
  std::vector<std::vector<double>> scalars;           // per step
  std::vector<double> bp_losses;                      // per step
  std::vector<StepTraffic> traffic, planned_traffic;  // per step
  std::vector<double> clip_scales;
  std::vector<double> cosines;  // of steps that measured one
  int64_t queries_per_pass = 0;
};

struct EngineSetup {
  const Objective* objective = nullptr;  // nullptr: cross-entropy
  // Called before each step with the engine of the rank.
  std::function<void(int64_t step, Engine&)> before_step;
  ParameterReader initial;  // empty: initial_values of the seed
};

// The engine on one rank of `world`; planned_* are those of the last step's kind, planned_peak that of the busiest kind.
ZerothOrderOutcome run_zeroth_order(const ZerothOrderCase& test, Communicator world, const EngineSetup& setup = {});
// The engine on `ranks` threads, after share_over(ranks); rank 0's outcome, after checking that all ranks agree bitwise.
ZerothOrderOutcome run_zeroth_order_threads(ZerothOrderCase test, int ranks, const EngineSetup& setup = {});

// Largest difference of two runs' parameters, as a share of the norm of the update that `from` (first values) makes to `b`.
double relative_difference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b,
                           const std::vector<std::vector<float>>& from);
// Largest |a - b| over all steps, as a share of the largest |b|.
double relative_difference(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b);

// A run as another one says it must be: losses to 1e-6, projected gradients to a share of the largest, parameters to a share of the
// update's norm. The bound of fp32 projected gradients is 2e-3; 1e-4 is
// measured, and a quarter of the bound is asked for.
struct Tolerance {
  double loss = 1e-6, scalars = 5e-4, parameters = 1e-3;
};
void expect_like(const ZerothOrderOutcome& found, const ZerothOrderOutcome& expected, const ZerothOrderCase& test,
                 const Tolerance& tolerance = {});
// Bit for bit.
void expect_same(const ZerothOrderOutcome& a, const ZerothOrderOutcome& b);

// The first values of the parameters of a case, in the model's order.
std::vector<std::vector<float>> first_values(const TrainingCase& test);

}  // namespace zerostep::testing
