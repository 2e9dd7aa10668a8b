#pragma once
#include <optional>
#include <string>
#include <vector>

#include "runtime/report/plan_report.h"

namespace zerostep {

// What a run reads of one set of data; no samples: it has none.
struct DataFacts {
  int64_t samples = 0;
  int64_t sample_tokens = 0, corpus_tokens = 0;  // of the samples, and of the files that they are taken from
  bool is_from_cache = false;
};

// What is true of a corpus and a job before the first step.
struct RunFacts {
  std::string device = "cpu", communication, host_kernels;
  int ranks = 1, local_ranks = 1, threads = 1;
  DataFacts train, backprop, evaluation;  // backprop: where it reads other data than the queries
  std::string folder;
  bool saves_model = false;    // at its end
  bool host_is_device = true;  // what is planned for the device is in the host's memory too
  int64_t resident_bytes = 0;  // of the process that tells, before it holds the model; 0: not known
};
// The lines before the first step.
std::vector<std::string> run_header(const PlanReport& report, const RunFacts& facts);

// What a finished, or stopped, run can say of itself.
struct RunOutcome {
  int64_t first_step = 0;                      // done before this process went on
  int64_t steps = 0, skipped = 0, tokens = 0;  // steps: of the run, the earlier ones included; the others are this process's
  double seconds = 0;                          // in steps
  double flops = 0;                            // of all ranks in these steps
  // A series of losses from its first value to its last.
  struct Losses {
    std::optional<double> first, last;
    void add(const std::optional<double>& loss) {
      if (!first) first = loss;
      if (loss) last = loss;
    }
  };
  Losses loss, bp_loss;  // bp_loss: of backprop, where it reads other data
  bool has_eval = false;
  double eval_loss = 0;
  std::optional<double> eval_accuracy;  // of a classifier
  int64_t device_peak_bytes = 0;
  int64_t file_bytes_read = 0, file_bytes_written = 0;  // counted in these steps, of the files of the rank that tells
  int64_t resident_peak_bytes = 0;                      // of the process that tells
  std::string stopped_by;                               // "SIGTERM"; "": it ran to its end
};
std::vector<std::string> run_footer(const PlanReport& report, const RunFacts& facts, const RunOutcome& outcome);

}  // namespace zerostep
