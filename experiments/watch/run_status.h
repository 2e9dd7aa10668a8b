#pragma once
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "experiments/records/run_record.h"

namespace zerostep {

// Where a run is, as its folder tells at a moment. What is not known is NaN, or empty.
struct RunStatus {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::string name, folder;
  RunState state = RunState::Unknown;
  std::string why, owner, unread;                      // as RunRecord
  int64_t step = -1;                                   // of the last row, from 0 as in metrics.csv; -1: there is no row
  int64_t total = 0;                                   // RunRecord::total_steps(); 0: not known
  std::vector<double> losses;                          // of the rows that have one
  double last_loss = kUnknown, final_loss = kUnknown;  // of the last row that has one; mean of the last 5 % of them
  double eval_loss = kUnknown, best_eval_loss = kUnknown;
  double eval_accuracy = kUnknown, best_eval_accuracy = kUnknown;  // of a classifier
  double tokens_per_second = kUnknown, step_seconds = kUnknown;    // of the last rows
  double seconds_left = kUnknown;                                  // of a run that is running
  double device_peak_bytes = kUnknown, planned_bytes = kUnknown, resident_bytes = kUnknown;
  double gpu_busy = kUnknown, gpu_bytes = kUnknown;  // of its last row
  std::string last_row;                              // its timestamp
  double seconds_since_row = kUnknown;               // where it is running

  // Processes of this host that make the run, and what they take; nothing where there are none, or nobody looked.
  struct Load {
    int processes = 0;
    double cores = 0;  // processor seconds a second
    int64_t resident_bytes = 0;
  };
  std::optional<Load> load;

  // It is running and has left no row for five minutes, or for the time of three steps where that is longer.
  bool is_silent() const;
};
// `now`: seconds since the epoch. A file that cannot be read leaves its values unknown; an error of metrics.csv stands in `why`.
RunStatus status_of(const RunRecord& run, double now);

// Looks at runs again and again, as status_of() does. A metrics.csv that has the size and the time of the last look is not read again.
class StatusReader {
 public:
  RunStatus status_of(const RunRecord& run, double now);

 private:
  struct Seen {
    int64_t size = -1;
    int64_t seconds = 0, nanoseconds = 0;  // of its last change
    RunStatus figures;                     // what it alone tells
  };
  std::map<std::filesystem::path, Seen> seen_;
};

// One object, with the names of metrics.csv where it has them: `loss` is the last one.
nlohmann::ordered_json status_json(const RunStatus& status);

}  // namespace zerostep
