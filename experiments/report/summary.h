#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plot/plot_run.h"
#include "experiments/report/archived_runs.h"

namespace zerostep {

// What a run came to; numbers are NaN where they are not known, and counts 0.
struct RunSummary {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::string name, path, why;  // path: its folder, its CSV file or its archive
  std::string unread;           // as RunRecord
  bool is_archived = false;     // its folder is gone: what is known is what its sweep's journal tells
  RunState state = RunState::Unknown;
  int64_t steps = 0, total_steps = 0;  // done; asked for
  double final_loss = kUnknown;        // the mean of the last 5 % of the rows that have a loss
  double best_eval_loss = kUnknown;
  double best_eval_accuracy = kUnknown;  // of a classifier
  double seconds = kUnknown, tokens_per_second = kUnknown, forwards = kUnknown;
  double device_peak_bytes = kUnknown, host_peak_bytes = kUnknown, file_peak_bytes = kUnknown;
  double planned_device_peak_bytes = kUnknown, planned_host_peak_bytes = kUnknown, planned_file_peak_bytes = kUnknown;
  std::vector<std::string> values;  // of Summary::keys
  // Until the common loss; unknown where it was not come to.
  double steps_to_common = kUnknown, seconds_to_common = kUnknown, forwards_to_common = kUnknown;

  bool has_diverged = false;

  std::string flaw() const { return flaw_of(state, has_diverged); }
  // "done", "failed"; "archived" or "failed, archived" of one that is.
  std::string state_text() const;
  // For people: "2.3134", "2.3134 (failed)"; "" where there is none.
  std::string final_loss_text() const;
};

struct Summary {
  std::vector<std::string> keys;     // in which the runs differ
  std::vector<std::string> telling;  // those of them that tell the runs apart
  std::vector<RunSummary> runs;      // in the order of the runs, then the archived ones
  // The lowest loss that all runs that neither failed nor were killed nor diverged have come to, as the mean of a twentieth of their rows
  // that have a loss; NaN where there is none.
  double common_loss = RunSummary::kUnknown;

  // The runs without a flaw with the lowest best evaluation loss, where all of them that have a loss have one, or else with the lowest
  // final loss; best first.
  std::vector<size_t> best(size_t most) const;
  bool ranks_by_evaluation() const;
  bool has_accuracies() const;  // of any run
  // What a run has for a key of `telling`; "" where it has none.
  const std::string& value_of(const RunSummary& run, const std::string& key) const;
};

// Needs the columns columns_of_summary(). Archived runs have the values that their sweep has set, and no time to the common loss.
Summary summarize(const std::vector<PlotRun>& runs, const std::vector<ArchivedRun>& archived = {});
std::vector<std::string_view> columns_of_summary();

std::string summary_csv(const Summary& summary);
std::string summary_text(const Summary& summary);  // a table for people, and what they look for first
nlohmann::ordered_json summary_json(const Summary& summary);

}  // namespace zerostep
