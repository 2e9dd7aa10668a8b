#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plot/plot_run.h"
#include "experiments/report/absent_runs.h"

namespace zerostep {

// What a run came to; numbers are NaN where they are not known, and counts 0.
struct RunSummary {
  static constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
  std::string name, path, why;  // path: its folder, its CSV file or its archive
  std::string unread;           // as RunRecord
  bool is_archived = false;     // its folder is gone: what is known is what its sweep's journal tells
  bool has_begun = true;        // false: a run of a sweep that has not come to its first step, in no mean, ranking or curve
  RunState state = RunState::Unknown;
  int64_t steps = 0, total_steps = 0;  // done; asked for
  double final_loss = kUnknown;        // the mean of the last 5 % of the rows that have a loss
  double best_eval_loss = kUnknown;
  double best_eval_accuracy = kUnknown;  // of a classifier
  double seconds = kUnknown, tokens_per_second = kUnknown, forwards = kUnknown;
  double device_peak_bytes = kUnknown, host_peak_bytes = kUnknown, file_peak_bytes = kUnknown;
  double planned_device_peak_bytes = kUnknown, planned_host_peak_bytes = kUnknown, planned_file_peak_bytes = kUnknown;
  std::vector<std::string> values;     // of Summary::keys
  std::vector<std::string> following;  // of Summary::following
  std::set<std::string> unknown_keys;  // of both those of which nothing is known, as of a CSV file's
  // What a loss is of: two runs' losses can be compared where it is the same, and evaluations where these are of the same data too.
  std::string task, evaluated_on;
  // Until the common loss; unknown where it was not come to.
  double steps_to_common = kUnknown, seconds_to_common = kUnknown, forwards_to_common = kUnknown;

  bool has_diverged = false;

  std::string flaw() const { return flaw_of(state, has_diverged); }
  // "done", "failed"; "archived" or "failed, archived" of one that is.
  std::string state_text() const;
  // For people: "2.3134", "2.3134 (failed)"; "" where there is none.
  std::string final_loss_text() const;
};

// The best of those runs whose losses can be compared: of one task, tokenizer and evaluation data.
struct Ranking {
  std::string of;  // "causal_lm, evaluated on news"
  bool is_by_evaluation = false;
  std::vector<size_t> best;  // indices of runs, best first
  double value(const RunSummary& run) const { return is_by_evaluation ? run.best_eval_loss : run.final_loss; }
  std::string column() const { return is_by_evaluation ? "evaluation loss" : "final loss"; }
};

struct Summary {
  std::vector<std::string> keys;       // in which the runs differ, but for those that follow from others
  std::vector<std::string> following;  // keys that differ and follow from others (following_keys())
  std::vector<std::string> telling;    // those of them that tell the runs apart
  std::vector<RunSummary> runs;        // in the order of the runs, then those that are absent
  // The lowest loss that all runs that neither failed nor were killed nor diverged have come to, as the mean of a twentieth of their rows
  // that have a loss; NaN where there is none, and where runs have several tasks.
  double common_loss = RunSummary::kUnknown;
  std::string why_no_common_loss;  // where there is none

  // Of each group of runs that can be compared, in the order of their first runs: those without a flaw with the lowest best evaluation
  // loss, where all of them that have a loss have one, or else with the lowest final loss. One that is alone in its group is ranked where
  // there is no other group.
  std::vector<Ranking> rankings(size_t most) const;
  // The runs without a flaw that are in no ranking, since no other run has their task and evaluation data.
  std::vector<size_t> unranked() const;
  bool has_accuracies() const;  // of any run
  // What a run has for a key of `telling`; "" where it has none.
  const std::string& value_of(const RunSummary& run, const std::string& key) const;
};

// Needs the columns columns_of_summary(). Absent runs have the values that their sweep has set, and no time to the common loss.
Summary summarize(const std::vector<PlotRun>& runs, const std::vector<AbsentRun>& absent = {});
std::vector<std::string_view> columns_of_summary();

std::string summary_csv(const Summary& summary);
std::string summary_text(const Summary& summary);  // a table for people, and what they look for first
// Which runs are not ranked and why, of those that are not.
std::string unranked_text(const Summary& summary);
nlohmann::ordered_json summary_json(const Summary& summary);

}  // namespace zerostep
