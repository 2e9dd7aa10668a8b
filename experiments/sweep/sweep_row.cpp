#include "experiments/sweep/sweep_row.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/format.h"
#include "base/nth.h"
#include "experiments/records/metrics_table.h"
#include "experiments/records/run_record.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

constexpr std::array<std::string_view, 6> kStates{"queued", "running", "done", "failed", "interrupted", "killed"};

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
  text += ",state,device,exit,started,seconds,steps,loss,best_eval_loss,device_peak_bytes,tokens_per_second,error\n";
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

}  // namespace zerostep
