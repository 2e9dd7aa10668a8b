#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "runtime/config/config.h"
#include "runtime/engine/prediction.h"
#include "runtime/engine/training_plan.h"
#include "runtime/plan/cost.h"

namespace zerostep {

// What a rank may use, and who says so ("run.device_memory", "free memory of this machine for each of 2 ranks").
struct MemoryLimit {
  int64_t device_bytes = 0;
  std::string source;
  bool includes_host = false;  // host memory comes out of the same
  // INT64_MAX: not known, or looked at where memory and files are taken.
  int64_t host_bytes = INT64_MAX, file_bytes = INT64_MAX;
  std::string file_source = {};  // who says how much room there is in files; "": who says the rest

  const std::string& source_of_files() const { return file_source.empty() ? source : file_source; }
};

// A plan with what it costs and where it would run. Refers to its parts; they must outlive it.
struct PlanReport {
  const Config& config;
  const TrainingPlan& plan;
  const PlanCost& cost;
  MemoryLimit limit;
  const Prediction* prediction = nullptr;  // nullptr: the machine's figures are not known

  int64_t needed_bytes() const { return cost.device_needed_bytes() + (limit.includes_host ? cost.host_peak_bytes : 0); }
  // Of the host's memory, what the state is copied to for a checkpoint (runtime/checkpoint/run_state.h).
  int64_t staging_bytes() const { return cost.host_peak_bytes - nth(plan.any_step().arena_bytes, Tier::Host); }
  bool fits_device() const { return needed_bytes() <= limit.device_bytes; }
  bool fits() const {
    return fits_device() && (limit.includes_host || cost.host_peak_bytes <= limit.host_bytes) && cost.file_peak_bytes <= limit.file_bytes;
  }
};

// What `zerostep plan --json` prints: the metrics' names for the busiest rank; nothing nested under one of those names exceeds it.
nlohmann::ordered_json plan_json(const PlanReport& report);
// The same for people.
std::string plan_text(const PlanReport& report);
// Every action of the training step, one a line.
std::string plan_actions_text(const TrainingPlan& plan);
// The proof that the lanes of each kind of step, of evaluation and of an update alone cannot race, whichever follows which
// (runtime/plan/verify.h).
struct ProofReport {
  std::string text;
  bool holds = true;
};
ProofReport prove_plan(const TrainingPlan& plan);
// For a plan that does not fit: what each tier needs, has and lacks, and what would help.
std::string does_not_fit(const PlanReport& report);

}  // namespace zerostep
