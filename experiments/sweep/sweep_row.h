#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/sweep/sweep_file.h"

namespace zerostep {

enum class SweepState : uint8_t {
  Queued,
  Running,
  Done,
  Failed,       // it said why, or a signal for a fault of its own ended it
  Interrupted,  // a signal stopped it after a step, or before its first one
  Killed        // a signal from outside ended it before it could save
};
std::string_view name_of(SweepState state);
std::optional<SweepState> sweep_state(std::string_view name);

// What runs.csv tells of one run.
struct SweepRow {
  std::string run;   // its folder's name
  KeyValues values;  // that the point sets
  SweepState state = SweepState::Queued;
  std::string device;
  std::optional<int> exit;  // status of its last process
  std::string started;      // when it ran first, as timestamps of metrics.csv
  double seconds = 0;       // that its processes were seen to run, all of them; of one whose sweep was killed, until its last row
  // Of its metrics.csv; nothing where there is none yet.
  int64_t steps = 0;
  std::optional<double> final_loss;  // the mean of the last 5 % of the rows that have a loss
  std::optional<double> last_loss;   // of the last of these rows
  std::optional<double> best_eval_loss, device_peak_bytes, tokens_per_second;
  bool has_diverged = false;  // the loss, as zerostep::has_diverged() says
  std::string error;

  // It is neither done nor failed, and --resume takes it up.
  bool is_stopped() const { return state == SweepState::Interrupted || state == SweepState::Killed; }
  // As of a run that has left no row.
  void forget_metrics();
};

// What the metrics.csv in the run's folder tells, into the row; nothing where it is no table of metrics.
void read_metrics(SweepRow& row, const std::filesystem::path& folder);
// The text of runs.csv: a line for each row, a column for each key that any of them sets; the final loss is its column `loss`.
std::string runs_csv(const std::vector<SweepRow>& rows);
// The rows of such a file, without the figures of their metrics but for the number of steps. A value that reads as JSON is that. InputError
// naming file and row: it is no such file.
std::vector<SweepRow> read_runs_csv(const std::filesystem::path& file);

}  // namespace zerostep
