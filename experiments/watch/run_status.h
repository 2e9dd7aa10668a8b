#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "experiments/records/run_record.h"

namespace zerostep {

// Where a run is, as its folder tells at a moment. What is not known is NaN, or empty.
struct RunStatus {
  std::string name, folder;
  RunState state = RunState::Unknown;
  std::string why;                       // as RunRecord
  int64_t step = -1;                     // of the last row, from 0 as in metrics.csv; -1: there is no row
  int64_t total = 0;                     // run.steps; 0: not known
  std::vector<double> losses;            // of the rows that have one
  double last_loss = 0, final_loss = 0;  // of the last row that has one; mean of the last 5 % of them
  double eval_loss = 0, best_eval_loss = 0;
  double eval_accuracy = 0, best_eval_accuracy = 0;  // of a classifier
  double tokens_per_second = 0, step_seconds = 0;    // of the last rows
  double seconds_left = 0;                           // of a run that is running
  double device_peak_bytes = 0, planned_bytes = 0, resident_bytes = 0;
  double gpu_busy = 0, gpu_bytes = 0;  // of its last row
  std::string last_row;                // its timestamp
  double seconds_since_row = 0;        // where it is running

  // Processes of this host that make the run, and what they take; nothing where there are none, or nobody looked.
  struct Load {
    int processes = 0;
    double cores = 0;  // processor seconds a second
    int64_t resident_bytes = 0;
  };
  std::optional<Load> load;

  // It is running and has left no row for five minutes.
  bool is_silent() const;
};
// `now`: seconds since the epoch. A file that cannot be read leaves its values unknown; an error of metrics.csv stands in `why`.
RunStatus status_of(const RunRecord& run, double now);

// The line of a run: name in so many columns, state, step, last loss with the curve of all, last evaluation, speed, time left, memory
// against the plan, load.
std::string status_line(const RunStatus& status, int name_columns);
// One object, with the names of metrics.csv where it has them: `loss` is the last one.
nlohmann::ordered_json status_json(const RunStatus& status);

}  // namespace zerostep
