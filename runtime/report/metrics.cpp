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

namespace zerostep {
namespace {

using Cells = std::vector<std::pair<const char*, std::string>>;

std::string cell(double value) { return round_trip(value); }
std::string cell(int64_t value) { return fmt::format("{}", value); }
template <typename T>
std::string cell(const std::optional<T>& value) {
  return value ? cell(*value) : std::string();
}
std::string cell(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

Cells cells(const MetricsRow& r) {
  return {{"timestamp", cell(r.timestamp)},
          {"epoch", cell(r.epoch)},
          {"step", cell(r.step)},
          {"mode", cell(r.mode)},
          {"scope", cell(r.scope)},
          {"q", cell(r.q)},
          {"lr", cell(r.lr)},
          {"batch_size", cell(r.batch_size)},
          {"optimizer", cell(r.optimizer)},
          {"bp_interval", cell(r.bp_interval)},
          {"loss", cell(r.loss)},
          {"grad_norm", cell(r.grad_norm)},
          {"eval_loss", cell(r.eval_loss)},
          {"cosine", cell(r.cosine)},
          {"unchanged_share", cell(r.unchanged_share)},
          {"loss_kind", cell(r.loss_kind)},
          {"eval_accuracy", cell(r.eval_accuracy)},
          {"tokens_per_second", cell(r.tokens_per_second)},
          {"step_seconds", cell(r.step_seconds)},
          {"loss_scale", cell(r.loss_scale)},
          {"skipped", r.skipped ? "1" : "0"},
          {"device_peak_bytes", cell(r.device_peak_bytes)},
          {"host_peak_bytes", cell(r.host_peak_bytes)},
          {"file_peak_bytes", cell(r.file_peak_bytes)},
          {"elements_gathered", cell(r.elements_gathered)},
          {"elements_reduced", cell(r.elements_reduced)},
          {"bp_loss", cell(r.bp_loss)},
          {"clip_scale", cell(r.clip_scale)}};
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

std::string metrics_header() {
  std::string line;
  for (const auto& [name, value] : cells({})) line += (line.empty() ? "" : ",") + std::string(name);
  return line;
}

std::string metrics_line(const MetricsRow& row) {
  std::string line;
  for (const auto& [name, value] : cells(row)) line += value + ",";
  line.pop_back();
  return line;
}

std::string timestamp_now() {
  const auto now = std::chrono::system_clock::now();
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds);
}

std::string time_for_names() {
  return fmt::format("{:%Y%m%d-%H%M%S}", fmt::localtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

MetricsFile::MetricsFile(const std::string& path, int64_t first_step) {
  if (first_step > 0) {
    // Rows of another version's columns are kept apart.
    std::ifstream in(path);
    std::string header;
    std::error_code ignored;
    if (std::getline(in, header) && header != metrics_header()) std::filesystem::rename(path, path + ".former", ignored);
    in.close();
    int64_t step = -1;
    const int64_t lines =
        keep_lines(path, [&](std::string_view line) { return step++ < 0 ? line == metrics_header() : step_of(line) < first_step; });
    rows_kept_ = std::max<int64_t>(0, lines - 1);
  }
  file_ = OutputFile(path, rows_kept_ > 0 ? OutputFile::Mode::Append : OutputFile::Mode::Truncate);
  if (rows_kept_ == 0) file_.write(metrics_header() + "\n");
}

void MetricsFile::append(const MetricsRow& row) { file_.write(metrics_line(row) + "\n"); }

}  // namespace zerostep
