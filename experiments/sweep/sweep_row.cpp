#include "experiments/sweep/sweep_row.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "base/json_depth.h"
#include "base/nth.h"
#include "experiments/records/metrics_table.h"
#include "experiments/records/read_file.h"
#include "experiments/records/run_record.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

constexpr std::array<std::string_view, 6> kStates{"queued", "running", "done", "failed", "interrupted", "killed"};

// Of runs.csv, behind the name and the values of a run.
constexpr std::array<std::string_view, 11> kColumns{
    "state", "device", "exit", "started", "seconds", "steps", "loss", "best_eval_loss", "device_peak_bytes", "tokens_per_second", "error"};

// The rows of a CSV file, of which quoted cells may have line breaks; a last one without an end is cut.
std::vector<std::vector<std::string>> csv_rows(const std::string& text) {
  std::vector<std::vector<std::string>> out;
  bool is_quoted = false;
  for (size_t begin = 0, i = 0; i < text.size(); ++i) {
    if (text[i] == '"') is_quoted = !is_quoted;
    if (text[i] != '\n' || is_quoted) continue;
    out.push_back(csv_cells(std::string_view(text).substr(begin, i - begin)));
    begin = i + 1;
  }
  return out;
}

std::optional<double> if_any(double value) { return std::isnan(value) ? std::nullopt : std::optional(value); }

std::string cell_of(const std::optional<double>& value) { return value ? round_trip(*value) : ""; }

}  // namespace

std::string_view name_of(SweepState state) { return nth(kStates, static_cast<int>(state)); }

std::optional<SweepState> sweep_state(std::string_view name) {
  for (size_t i = 0; i < kStates.size(); ++i)
    if (kStates[i] == name) return static_cast<SweepState>(i);
  return std::nullopt;
}

void SweepRow::forget_metrics() {
  steps = 0;
  final_loss = last_loss = best_eval_loss = device_peak_bytes = tokens_per_second = std::nullopt;
  has_diverged = false;
}

void read_metrics(SweepRow& row, const std::filesystem::path& folder) {
  constexpr std::string_view kColumns[] = {"loss", "eval_loss", "device_peak_bytes", "tokens_per_second", "step_seconds"};
  if (!holds_run(folder)) return;
  MetricsTable table;
  try {
    table = MetricsTable::read(folder / "metrics.csv", kColumns);
  } catch (const InputError&) {
    return row.forget_metrics();
  }
  row.steps = table.num_rows();
  row.has_diverged = has_diverged(table, "loss");
  row.final_loss = if_any(final_mean(table.column("loss")));
  row.last_loss = if_any(last_value(table.column("loss")));
  row.best_eval_loss = if_any(lowest(table.column("eval_loss")));
  row.device_peak_bytes = if_any(highest(table.column("device_peak_bytes")));
  row.tokens_per_second = if_any(mean_speed(table));
}

std::string runs_csv(const std::vector<SweepRow>& rows) {
  std::set<std::string> keys;
  for (const SweepRow& row : rows)
    for (const auto& [path, value] : row.values) keys.insert(path);
  std::string text = "run";
  for (const std::string& key : keys) text += "," + csv_cell(key);
  text += fmt::format(",{}\n", fmt::join(kColumns, ","));
  for (const SweepRow& row : rows) {
    const std::map<std::string, nlohmann::json> values(row.values.begin(), row.values.end());
    text += csv_cell(row.run);
    for (const std::string& key : keys) text += "," + (values.contains(key) ? csv_cell(plain(values.at(key))) : "");
    text += fmt::format(",{},{},{},{},{},{},{},{},{},{},{}\n", name_of(row.state), csv_cell(row.device),
                        row.exit ? std::to_string(*row.exit) : "", row.started, row.seconds > 0 ? fmt::format("{:.3f}", row.seconds) : "",
                        row.steps > 0 ? std::to_string(row.steps) : "", cell_of(row.final_loss), cell_of(row.best_eval_loss),
                        cell_of(row.device_peak_bytes), cell_of(row.tokens_per_second), csv_cell(row.error));
  }
  return text;
}

std::vector<SweepRow> read_runs_csv(const std::filesystem::path& file) {
  const std::vector<std::vector<std::string>> rows = csv_rows(read_file(file));
  const auto fail = [&](size_t row) {
    fail_input("{}: row {} is none of a sweep's runs.csv; `--resume` of the sweep writes it anew", file.string(), row + 1);
  };
  if (rows.empty() || rows[0].size() <= kColumns.size() || !std::equal(kColumns.rbegin(), kColumns.rend(), rows[0].rbegin())) fail(0);
  const std::vector<std::string>& names = rows[0];
  const size_t end_of_values = names.size() - kColumns.size();
  std::vector<SweepRow> out;
  for (size_t i = 1; i < rows.size(); ++i) {
    if (rows[i].size() != names.size()) fail(i);
    std::map<std::string_view, std::string_view> cells;  // of kColumns
    for (size_t column = end_of_values; column < names.size(); ++column) cells[names[column]] = rows[i][column];
    const std::optional<SweepState> state = sweep_state(cells["state"]);
    if (!state) fail(i);
    SweepRow& row = out.emplace_back();
    row.run = rows[i][0];
    row.state = *state;
    row.device = cells["device"];
    row.started = cells["started"];
    row.error = cells["error"];
    const double steps = csv_number(cells["steps"].data(), cells["steps"].data() + cells["steps"].size());
    if (!std::isnan(steps)) row.steps = static_cast<int64_t>(steps);
    for (size_t column = 1; column < end_of_values; ++column) {
      if (rows[i][column].empty()) continue;  // it does not set it
      nlohmann::json value = nlohmann::json::parse(unless_too_deep(rows[i][column]), nullptr, false);
      row.values.emplace_back(names[column], value.is_discarded() ? nlohmann::json(rows[i][column]) : value);
    }
  }
  return out;
}

}  // namespace zerostep
