#pragma once
#include <optional>
#include <string>
#include <vector>

#include "base/machine_load.h"
#include "runtime/data/data_stream.h"
#include "runtime/report/plan_report.h"

namespace zerostep {

// What a run reads of one set of data; no samples: it has none.
struct DataFacts {
  int64_t samples = 0;
  int64_t sample_tokens = 0, corpus_tokens = 0;  // of the samples, and of the files that they are taken from
  bool is_from_cache = false;
  std::vector<SampleSource> sources = {};  // that it is made of
  bool is_weighted = false;                // they are mixed by weights
  int64_t reads = 0;                       // samples that the whole run takes; 0: not known
};
// Of an evaluation set, with its name, "" where there is one set.
struct SetFacts {
  std::string name;
  DataFacts data;
};

// What is true of a corpus and a job before the first step.
struct RunFacts {
  std::string device = "cpu", communication, host_kernels;
  int ranks = 1, local_ranks = 1, threads = 1;
  DataFacts train, backprop;  // backprop: where it reads other data than the queries
  std::vector<SetFacts> evaluation, test;
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
  // Of an evaluation set: its loss, and of a classifier its accuracy.
  struct Evaluated {
    std::string name;
    double loss = 0;
    std::optional<double> accuracy;
  };
  std::vector<Evaluated> evaluation, test;  // the last ones
  int64_t device_peak_bytes = 0;
  int64_t file_bytes_read = 0, file_bytes_written = 0;  // counted in these steps, of the files of the rank that tells
  int64_t resident_peak_bytes = 0;                      // of the process that tells
  MachineLoad load;                                     // at its end
  std::string stopped_by;                               // "SIGTERM"; "": it ran to its end
};
// "loss 3.2158, perplexity 24.92", of several sets "near: loss ...; far: loss ...".
std::string evaluation_text(const std::vector<RunOutcome::Evaluated>& sets);
std::vector<std::string> run_footer(const PlanReport& report, const RunFacts& facts, const RunOutcome& outcome);

}  // namespace zerostep
