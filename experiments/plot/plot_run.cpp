#include "experiments/plot/plot_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <exception>
#include <thread>
#include <utility>

#include "base/error.h"
#include "experiments/records/brief_value.h"
#include "runtime/config/values.h"

namespace zerostep {
namespace {

// Keys that a column of metrics.csv tells too.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kColumnsOfKeys{{{"step.mode", "mode"},
                                                                                       {"step.scope", "scope"},
                                                                                       {"step.queries", "q"},
                                                                                       {"step.bp_interval", "bp_interval"},
                                                                                       {"train_batch_size", "batch_size"},
                                                                                       {"optimizer.type", "optimizer"},
                                                                                       {"optimizer.params.lr", "lr"}}};

// A mode as step.mode has it however it is written ("FO", "ALT"); "" of what stands for no value.
std::string settled(std::string text, std::string_view path) {
  if (text == "N/A" || text == "null") return "";
  if (path != "step.mode") return text;
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  if (text == "alt") return "alternating";
  return text;
}

// Which lists and objects of a key have one short text with others.
void find_ambiguous(std::vector<PlotRun>& runs) {
  std::map<std::pair<std::string, std::string>, std::set<std::string>> values;  // of a path and a text
  for (const PlotRun& run : runs)
    for (const auto& [path, value] : flat(run.record.config)) values[{path, brief(path, value)}].insert(value.dump());
  for (PlotRun& run : runs)
    for (const auto& [path, value] : flat(run.record.config))
      if (value.is_structured() && values.at({path, brief(path, value)}).size() > 1) run.ambiguous.insert(path);
}

}  // namespace

bool PlotRun::has_values(std::string_view name) const {
  const std::span<const double> values = column(name);
  return std::any_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

std::string PlotRun::shown(const nlohmann::json& value, std::string_view path) const {
  const std::string text = brief(path, value);
  return ambiguous.contains(std::string(path)) ? with_hash_of(text, value) : text;
}

std::string PlotRun::value(std::string_view path) const {
  if (without_effect.contains(path)) return "";
  if (const nlohmann::json& found = record.value(path); !found.is_null()) return settled(shown(found, path), path);
  // A configuration tells whether queries are made; the column's first cell may be of a step without.
  for (const auto& [key, column] : kColumnsOfKeys)
    if (key == path && record.config.is_null()) return settled(table.first(column), path);
  return "";
}

std::map<std::string, std::string> PlotRun::values() const {
  std::map<std::string, std::string> out;
  for (const auto& [path, value] : flat(record.config))
    if (!without_effect.contains(path)) out[path] = settled(shown(value, path), path);
  if (record.config.is_null())
    for (const auto& [key, column] : kColumnsOfKeys)
      if (std::string text = value(key); !text.empty()) out[std::string(key)] = std::move(text);
  return out;
}

RunKeys PlotRun::keys() const {
  RunKeys out{values(), !record.config.is_null()};
  if (!out.are_all)
    for (const auto& [key, column] : kColumnsOfKeys)
      if (!table.first(column).empty()) out.values.emplace(key, "");
  return out;
}

std::vector<RunKeys> keys_of(const std::vector<PlotRun>& runs) {
  std::vector<RunKeys> out;
  for (const PlotRun& run : runs) out.push_back(run.keys());
  return out;
}

std::vector<PlotRun> load_runs(std::vector<RunRecord> records, const std::vector<std::string_view>& columns, int threads,
                               std::vector<std::string>& notes) {
  std::vector<PlotRun> all(records.size());
  std::vector<std::exception_ptr> errors(records.size());
  std::vector<std::string> unread(records.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < records.size(); i = next++) {
      all[i].record = std::move(records[i]);
      try {
        if (all[i].record.config.is_object())
          for (const std::string& path : schema::keys_without_effect(all[i].record.config)) all[i].without_effect.insert(path);
        all[i].table = MetricsTable::read(all[i].record.metrics, columns);
        all[i].has_diverged = has_diverged(all[i].table, "loss");
      } catch (const InputError& error) {
        unread[i] = error.what();
        errors[i] = std::current_exception();
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int t = 1; t < std::min<int>(threads, static_cast<int>(records.size())); ++t) helpers.emplace_back(work);
    work();
  }
  const bool any_is_read = std::find(errors.begin(), errors.end(), nullptr) != errors.end();
  std::vector<PlotRun> out;
  for (size_t i = 0; i < all.size(); ++i) {
    if (errors[i] && (unread[i].empty() || !any_is_read)) std::rethrow_exception(errors[i]);
    const bool has_row = !errors[i] || !all[i].record.may_read_metrics;
    if (errors[i])
      notes.push_back(fmt::format("{} {}: {}", all[i].record.name, has_row ? "has a row without curves" : "is left out", unread[i]));
    if (has_row) out.push_back(std::move(all[i]));
  }
  find_ambiguous(out);
  return out;
}

}  // namespace zerostep
