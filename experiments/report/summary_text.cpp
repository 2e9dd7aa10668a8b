#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/first_names.h"
#include "base/format.h"
#include "experiments/plot/grouping.h"
#include "experiments/plot/ticks.h"
#include "experiments/report/summary.h"
#include "experiments/text/text_table.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

// The figures of a run by their names in summary.csv and in JSON.
std::vector<std::pair<const char*, double>> figures_of(const RunSummary& run) {
  return {{"final_loss", run.final_loss},
          {"best_eval_loss", run.best_eval_loss},
          {"best_eval_accuracy", run.best_eval_accuracy},
          {"seconds", run.seconds},
          {"tokens_per_second", run.tokens_per_second},
          {"forwards", run.forwards},
          {"device_peak_bytes", run.device_peak_bytes},
          {"host_peak_bytes", run.host_peak_bytes},
          {"file_peak_bytes", run.file_peak_bytes},
          {"planned_device_peak_bytes", run.planned_device_peak_bytes},
          {"planned_host_peak_bytes", run.planned_host_peak_bytes},
          {"planned_file_peak_bytes", run.planned_file_peak_bytes},
          {"steps_to_common_loss", run.steps_to_common},
          {"seconds_to_common_loss", run.seconds_to_common},
          {"forwards_to_common_loss", run.forwards_to_common}};
}

nlohmann::ordered_json number_or_null(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == std::floor(value) && std::abs(value) < 9e15) return static_cast<int64_t>(value);
  return value;
}

}  // namespace

std::string summary_csv(const Summary& summary) {
  std::string out = "run";
  for (const std::string& key : summary.keys) out += "," + csv_cell(key);
  out += ",state,steps";
  for (const auto& [name, value] : figures_of({})) out += fmt::format(",{}", name);
  out += ",error,unread\n";
  for (const RunSummary& run : summary.runs) {
    out += csv_cell(run.name);
    for (const std::string& value : run.values) out += "," + csv_cell(value);
    out += fmt::format(",{},{}", csv_cell(run.state_text()), run.steps);
    for (const auto& [name, value] : figures_of(run)) out += std::isnan(value) ? "," : "," + round_trip(value);
    out += "," + csv_cell(run.state == RunState::Failed ? run.why : "") + "," + csv_cell(run.unread) + "\n";
  }
  return out;
}

std::string summary_text(const Summary& summary) {
  TextTable table;
  std::vector<std::string> head{"run"};
  for (const std::string& key : summary.telling) head.push_back(short_key(key));
  for (const char* name : {"state", "steps", "final loss", "best eval"}) head.emplace_back(name);
  if (summary.has_accuracies()) head.emplace_back("accuracy");
  for (const char* name : {"time", "tokens/s", "device"}) head.emplace_back(name);
  table.add(head);
  for (const RunSummary& run : summary.runs) {
    std::vector<std::string> row{run.name};
    for (const std::string& key : summary.telling) row.push_back(summary.value_of(run, key));
    const auto number = [](double value, const std::string& text) { return std::isnan(value) ? std::string("-") : text; };
    row.push_back(run.state_text());
    row.push_back(run.total_steps > run.steps ? fmt::format("{}/{}", run.steps, run.total_steps) : fmt::format("{}", run.steps));
    row.push_back(run.final_loss_text().empty() ? "-" : run.final_loss_text());
    row.push_back(number(run.best_eval_loss, fmt::format("{:.5g}", run.best_eval_loss)));
    if (summary.has_accuracies()) row.push_back(number(run.best_eval_accuracy, fmt::format("{:.4f}", run.best_eval_accuracy)));
    row.push_back(number(run.seconds, human_duration(run.seconds)));
    row.push_back(number(run.tokens_per_second, human_count(run.tokens_per_second)));
    row.push_back(number(run.device_peak_bytes, short_value(run.device_peak_bytes, AxisUnit::Bytes)));
    table.add(row);
  }
  std::string out = table.text();
  out += "\nfinal loss: mean of the last 5 % of the rows that have a loss; best eval: lowest evaluation loss\n";
  const std::vector<size_t> alone = summary.unranked();
  const std::vector<Ranking> rankings = summary.rankings(5);
  for (const Ranking& ranking : rankings) {
    if (ranking.best.empty()) continue;
    out += fmt::format("best by {}{}: ", ranking.column(), rankings.size() > 1 || !alone.empty() ? fmt::format(" ({})", ranking.of) : "");
    for (size_t i = 0; i < ranking.best.size(); ++i) {
      const RunSummary& run = summary.runs[ranking.best[i]];
      out += fmt::format("{}{} ({:.5g})", i > 0 ? ", " : "", run.name, ranking.value(run));
    }
    out += "\n";
  }
  if (!alone.empty()) out += unranked_text(summary) + "\n";
  std::vector<std::string> flawed;
  for (const RunSummary& run : summary.runs)
    if (!run.flaw().empty()) flawed.push_back(fmt::format("{} ({})", run.name, run.flaw()));
  if (!flawed.empty()) out += fmt::format("left out of means and of the best: {}\n", fmt::join(flawed, ", "));
  for (const RunSummary& run : summary.runs)
    if (run.state == RunState::Failed) out += fmt::format("failed: {}: {}\n", run.name, run.why);
  for (const RunSummary& run : summary.runs)
    if (!run.unread.empty()) out += fmt::format("not read: {}: {}\n", run.name, run.unread);
  return out;
}

std::string unranked_text(const Summary& summary) {
  std::vector<std::string> names;
  for (size_t i : summary.unranked()) names.push_back(summary.runs[i].name);
  return fmt::format("not ranked, since no other run has {} task and evaluation data (model.task, data.tokenizer, data.eval): {}",
                     names.size() == 1 ? "its" : "their", first_names(names));
}

nlohmann::ordered_json summary_json(const Summary& summary) {
  nlohmann::ordered_json out;
  out["differing_keys"] = summary.keys;
  out["following_keys"] = summary.following;
  out["common_loss"] = number_or_null(summary.common_loss);
  out["runs"] = nlohmann::ordered_json::array();
  for (const RunSummary& run : summary.runs) {
    nlohmann::ordered_json one{{"name", run.name}, {"path", run.path}, {"state", run.state_text()}, {"steps", run.steps}};
    for (const auto& [name, value] : figures_of(run)) one[name] = number_or_null(value);
    nlohmann::ordered_json keys = nlohmann::ordered_json::object();
    for (size_t k = 0; k < summary.keys.size(); ++k) keys[summary.keys[k]] = run.values[k];
    for (size_t k = 0; k < summary.following.size(); ++k) keys[summary.following[k]] = run.following[k];
    one["keys"] = keys;
    one["diverged"] = run.has_diverged;
    if (run.state == RunState::Failed) one["error"] = run.why;
    if (!run.unread.empty()) one["unread"] = run.unread;
    out["runs"].push_back(std::move(one));
  }
  return out;
}

}  // namespace zerostep
