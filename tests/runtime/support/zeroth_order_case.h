#pragma once
#include <functional>
#include <string>
#include <vector>

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

// Elements that a rank receives in a step, and bytes that it reads from its files and writes to them.
struct StepTraffic {
  int64_t elements_gathered = 0, elements_reduced = 0, file_bytes_read = 0, file_bytes_written = 0;
};

struct ZerothOrderOutcome : TrainingOutcome {
  std::vector<std::vector<double>> scalars;           // per step
  std::vector<std::optional<double>> bp_losses;       // per step; nothing: a step without backprop
  std::vector<StepTraffic> traffic, planned_traffic;  // per step
  std::vector<double> clip_scales;
  std::vector<double> cosines;  // of steps that measured one
  int64_t queries_per_pass = 0;
};

struct EngineSetup {
  const Objective* objective = nullptr;  // nullptr: cross-entropy
  // Called before and after each step with the engine of the rank.
  std::function<void(int64_t step, Engine&)> before_step = {}, after_step = {};
  ParameterReader initial = {};  // empty: initial_values of the seed
  Device device = Device::cpu();
  std::function<Device(int rank)> device_of_rank = {};                   // instead
  enum class Between { Nccl, Threads, Staged } between = Between::Nccl;  // GPUs of several ranks
  std::optional<Updates> updates = Updates::Immediate;                   // nothing: as plan_training decides
  std::function<void(TrainingPlan&)> change_plan = {};                   // before the engine gets it
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

// A run as another one says it must be, within what fp32 leaves open (u = 2^-24).
// Losses, relative: the values on the longest way through the small model sum about 750 terms one after the other (in each of three blocks
// products of 20, 20, 20 and 36 terms, scores of 10, a softmax and a weighted sum of 12, means of 20; the head; a log-softmax of 61).
// sqrt(750) u = 1.6e-6 as roundings fall, 750 u = 4.5e-5 if all fell on the same side; three of the former are asked for.
// Projected gradients, as a share of the largest: 2e-3 is the bound of such a loss over epsilon; a quarter of it is asked for.
// Parameters, as a share of the update's norm: twice that, since the estimate is a sum of projected gradients.
struct Tolerance {
  double loss = 5e-6, scalars = 5e-4, parameters = 1e-3;
};
// Lion moves each element by its sign. Those whose estimate is smaller than the scalars' error, of a normal distribution a share of 0.8
// times that error, may go the other way, and are then two steps apart: as a share of the update's norm, 2 sqrt(0.8 scalars).
double sign_tolerance(double scalars);
void expect_like(const ZerothOrderOutcome& found, const ZerothOrderOutcome& expected, const ZerothOrderCase& test,
                 const Tolerance& tolerance = {});
// Bit for bit.
void expect_same(const ZerothOrderOutcome& a, const ZerothOrderOutcome& b);

// The first values of the parameters of a case, in the model's order.
std::vector<std::vector<float>> first_values(const TrainingCase& test);

}  // namespace zerostep::testing
