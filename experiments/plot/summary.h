#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/plot/plot_run.h"

namespace zerostep {

// What a run came to; NaN where it is not known.
struct RunSummary {
  std::string name, place, state, why;
  int64_t steps = 0, total_steps = 0;  // done; asked for, 0: not known
  double final_loss = 0;               // the mean of the last 5 % of the steps
  double best_eval_loss = 0;
  double best_eval_accuracy = 0;  // of a classifier
  double seconds = 0, tokens_per_second = 0, forwards = 0;
  double device_peak_bytes = 0, host_peak_bytes = 0, file_peak_bytes = 0;
  double planned_device_peak_bytes = 0, planned_host_peak_bytes = 0, planned_file_peak_bytes = 0;
  std::vector<std::string> values;  // of Summary::keys
  // Until the common loss: NaN where it was not come to.
  double steps_to_common = 0, seconds_to_common = 0, forwards_to_common = 0;

  bool is_broken() const { return state == "failed" || state == "killed"; }
};

struct Summary {
  std::vector<std::string> keys;     // in which the runs differ
  std::vector<std::string> telling;  // those of them that tell the runs apart
  std::vector<RunSummary> runs;      // in the order of the runs
  // The lowest loss that all runs that neither failed nor were killed have come to, as the mean of a twentieth of their steps; NaN where
  // there is none.
  double common_loss = 0;

  // The runs that are not broken with the lowest best evaluation loss, where all of them have one, or else with the lowest final
  // loss; best first.
  std::vector<size_t> best(size_t most) const;
  bool ranks_by_evaluation() const;
  bool has_accuracies() const;  // of any run
};

// Needs the columns columns_of_summary().
Summary summarize(const std::vector<PlotRun>& runs);
std::vector<std::string_view> columns_of_summary();

std::string summary_csv(const Summary& summary);
std::string summary_text(const Summary& summary);  // a table for people, and what they look for first
nlohmann::ordered_json summary_json(const Summary& summary);

double speed_of(const PlotRun& run);  // tokens of all its steps over their seconds
double deviation_of_last_fifth(std::span<const double> values);

}  // namespace zerostep
