#pragma once
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/records/metrics_table.h"
#include "experiments/records/run_record.h"

namespace zerostep {

// A run with its steps.
struct PlotRun {
  RunRecord record;
  MetricsTable table;
  bool has_diverged = false;  // its loss, as zerostep::has_diverged() says
  // Keys whose value, a list or an object, has the short text of another value of the runs that it was loaded with.
  std::set<std::string> ambiguous = {};
  // Keys of its configuration that have no effect where they stand, by the schema's rules: the run has none of them.
  std::set<std::string, std::less<>> without_effect = {};

  std::string flaw() const { return flaw_of(record.state, has_diverged); }
  // Of a column of its metrics; none where it has none.
  std::span<const double> column(std::string_view name) const { return table.column(name); }
  // Whether a column has a number in any row.
  bool has_values(std::string_view name) const;
  // The value of a key as people write it, a list or an object by its short text, with a hash where it is ambiguous: of the configuration,
  // or of the column of metrics.csv that says the same; "" where neither does.
  std::string value(std::string_view path) const;
  // The values of all its keys by their path, as value() gives them.
  std::map<std::string, std::string> values() const;
  // The same with what is known of other keys: all of a run with a configuration, else that columns tell no value.
  RunKeys keys() const;

 private:
  std::string shown(const nlohmann::json& value, std::string_view path) const;
};

std::vector<RunKeys> keys_of(const std::vector<PlotRun>& runs);

// Reads these columns of the runs' files, several at a time on `threads` threads. A run whose metrics may not be read has no steps, and one
// whose metrics are no table with a column `loss` is left out; `notes` gain a sentence of each. InputError, the first run's, where none can
// be read.
std::vector<PlotRun> load_runs(std::vector<RunRecord> records, const std::vector<std::string_view>& columns, int threads,
                               std::vector<std::string>& notes);

}  // namespace zerostep
