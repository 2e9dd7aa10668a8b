#pragma once
#include <optional>
#include <string>
#include <vector>

#include "runtime/report/plan_report.h"

namespace zerostep {

// What is true of a corpus and a job before the first step.
struct RunFacts {
  std::string communication, host_kernels;
  int ranks = 1, local_ranks = 1, threads = 1;
  int64_t train_tokens = 0, train_samples = 0;
  bool train_from_cache = false;
  int64_t eval_tokens = 0, eval_samples = 0;  // 0: no evaluation
  std::string folder;
};
// The lines before the first step.
std::vector<std::string> run_header(const PlanReport& report, const RunFacts& facts);

// What a finished, or stopped, run can say of itself.
struct RunOutcome {
  int64_t steps = 0, skipped = 0, tokens = 0;
  double seconds = 0;         // in steps
  double flops_per_step = 0;  // of all ranks
  double first_loss = 0, last_loss = 0;
  bool has_eval = false;
  double eval_loss = 0;
  std::optional<double> eval_accuracy;  // of a classifier
  int64_t device_peak_bytes = 0;
  std::string stopped_by;  // "SIGTERM"; "": it ran to its end
};
std::vector<std::string> run_footer(const PlanReport& report, const RunFacts& facts, const RunOutcome& outcome);

}  // namespace zerostep
