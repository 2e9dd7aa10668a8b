#include "runtime/report/metrics.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <limits>
#include <vector>

#include "base/format.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

using Cells = std::vector<std::pair<const char*, std::string>>;

std::string cell(double value) { return round_trip(value); }
std::string cell(int64_t value) { return fmt::format("{}", value); }
template <typename T>
std::string cell(const std::optional<T>& value) {
  return value ? cell(*value) : std::string();
}
std::string cell(const std::string& text) { return csv_cell(text); }

std::string cell(bool value) { return value ? "1" : "0"; }

// Every column with its name, in order.
template <class Visitor>
void visit_columns(const MetricsRow& r, Visitor&& visit) {
  visit("timestamp", r.timestamp);
  visit("epoch", r.epoch);
  visit("step", r.step);
  visit("mode", r.mode);
  visit("scope", r.scope);
  visit("q", r.q);
  visit("lr", r.lr);
  visit("batch_size", r.batch_size);
  visit("optimizer", r.optimizer);
  visit("bp_interval", r.bp_interval);
  visit("loss", r.loss);
  visit("grad_norm", r.grad_norm);
  visit("eval_loss", r.eval_loss);
  visit("cosine", r.cosine);
  visit("unchanged_share", r.unchanged_share);
  visit("loss_kind", r.loss_kind);
  visit("eval_accuracy", r.eval_accuracy);
  visit("tokens_per_second", r.tokens_per_second);
  visit("step_seconds", r.step_seconds);
  visit("loss_scale", r.loss_scale);
  visit("skipped", r.skipped);
  visit("device_peak_bytes", r.device_peak_bytes);
  visit("host_peak_bytes", r.host_peak_bytes);
  visit("file_peak_bytes", r.file_peak_bytes);
  visit("elements_gathered", r.elements_gathered);
  visit("elements_reduced", r.elements_reduced);
  visit("bp_loss", r.bp_loss);
  visit("clip_scale", r.clip_scale);
  visit("resident_bytes", r.resident_bytes);
  visit("gpu_busy", r.gpu_busy);
  visit("gpu_bytes", r.gpu_bytes);
  for (const auto& [name, value] : r.of_sets) visit(name, value);
}

Cells cells(const MetricsRow& row) {
  Cells out;
  visit_columns(row, [&](const char* name, const auto& value) { out.emplace_back(name, cell(value)); });
  return out;
}

// The third cell of a row, which comes after two without commas; a very large one where there is none.
int64_t step_of(std::string_view line) {
  for (int cell = 0; cell < 2; ++cell)
    line.remove_prefix(std::min(line.size(), line.find(',') == line.npos ? line.size() : line.find(',') + 1));
  int64_t step = std::numeric_limits<int64_t>::max();
  std::from_chars(line.data(), line.data() + line.size(), step);
  return step;
}

}  // namespace

std::string metrics_header(const std::vector<std::string>& of_sets) {
  std::string line;
  for (const auto& [name, value] : cells({})) line += (line.empty() ? "" : ",") + std::string(name);
  for (const std::string& name : of_sets) line += "," + name;
  return line;
}

std::string metrics_line(const MetricsRow& row) {
  std::string line;
  for (const auto& [name, value] : cells(row)) line += value + ",";
  line.pop_back();
  return line;
}

std::vector<std::pair<const char*, double>> metrics_numbers(const MetricsRow& row) {
  std::vector<std::pair<const char*, double>> out;
  struct Visitor {
    std::vector<std::pair<const char*, double>>& out;
    void operator()(const char*, const std::string&) const {}
    void operator()(const char* name, double value) const { out.emplace_back(name, value); }
    void operator()(const char* name, int64_t value) const { out.emplace_back(name, static_cast<double>(value)); }
    void operator()(const char* name, bool value) const { out.emplace_back(name, value ? 1 : 0); }
    void operator()(const char* name, const std::optional<double>& value) const {
      if (value) out.emplace_back(name, *value);
    }
    void operator()(const char* name, const std::optional<int64_t>& value) const {
      if (value) out.emplace_back(name, static_cast<double>(*value));
    }
  };
  visit_columns(row, Visitor{out});
  std::erase_if(out, [](const auto& number) { return std::string_view(number.first) == "step"; });
  return out;
}

std::string timestamp_now() {
  const auto now = std::chrono::system_clock::now();
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds);
}

std::string time_for_names() {
  return fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

MetricsFile::MetricsFile(const std::string& path, int64_t first_step, const std::vector<std::string>& of_sets) {
  const std::string expected = metrics_header(of_sets);
  if (first_step > 0) {
    // Rows of another version's columns are kept apart.
    std::ifstream in(path);
    std::string header;
    std::error_code ignored;
    if (std::getline(in, header) && header != expected) std::filesystem::rename(path, path + ".former", ignored);
    in.close();
    int64_t step = -1;
    const int64_t lines =
        keep_lines(path, [&](std::string_view line) { return step++ < 0 ? line == expected : step_of(line) < first_step; });
    rows_kept_ = std::max<int64_t>(0, lines - 1);
  }
  file_ = OutputFile(path, rows_kept_ > 0 ? OutputFile::Mode::Append : OutputFile::Mode::Truncate);
  if (rows_kept_ == 0) file_.write(expected + "\n");
}

void MetricsFile::append(const MetricsRow& row) { file_.write(metrics_line(row) + "\n"); }

}  // namespace zerostep
