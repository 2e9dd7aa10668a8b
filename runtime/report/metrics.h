#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/report/output_file.h"

namespace zerostep {

// One row of metrics.csv; what has no value stays empty.
struct MetricsRow {
  std::string timestamp;  // UTC, ISO 8601 with milliseconds
  int64_t epoch = 0, step = 0;
  std::string mode, scope;
  std::optional<int64_t> q;
  double lr = 0;
  int64_t batch_size = 0;
  std::string optimizer;
  std::optional<int64_t> bp_interval;
  std::optional<double> loss, grad_norm, eval_loss, cosine, unchanged_share;
  std::string loss_kind;
  std::optional<double> eval_accuracy;
  double tokens_per_second = 0, step_seconds = 0, loss_scale = 1;
  bool skipped = false;
  int64_t device_peak_bytes = 0, host_peak_bytes = 0, file_peak_bytes = 0;
  int64_t elements_gathered = 0, elements_reduced = 0;
  std::optional<double> bp_loss, clip_scale;
  int64_t resident_bytes = 0;        // of the process with most, at the step
  std::optional<double> gpu_busy;    // from 0 to 1, of the busiest GPU
  std::optional<int64_t> gpu_bytes;  // taken on the fullest GPU
  // Of named evaluation sets, "eval_loss.NAME": in the order of MetricsFile's. The names outlive the row.
  std::vector<std::pair<const char*, std::optional<double>>> of_sets = {};
};

// "timestamp,epoch,step,...": the names in order, and those of named evaluation sets.
std::string metrics_header(const std::vector<std::string>& of_sets = {});
std::string metrics_line(const MetricsRow& row);  // without the end of line; floats read back as they were
// The columns that are numbers and have a value, but for the step itself.
std::vector<std::pair<const char*, double>> metrics_numbers(const MetricsRow& row);
std::string timestamp_now();
// Local date and time as in a file's name: 20260131-235959.
std::string time_for_names();

// metrics.csv: a row a step, each on disk's way before append() returns.
class MetricsFile {
 public:
  // A run that goes on at a step keeps the rows of those before it. `of_sets`: the columns of named evaluation sets.
  explicit MetricsFile(const std::string& path, int64_t first_step = 0, const std::vector<std::string>& of_sets = {});
  int64_t rows_kept() const { return rows_kept_; }
  void append(const MetricsRow& row);

 private:
  int64_t rows_kept_ = 0;
  OutputFile file_;
};

}  // namespace zerostep
