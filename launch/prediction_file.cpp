#include "launch/prediction_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "launch/replaceable.h"
#include "offload/disk.h"
#include "runtime/report/csv_cells.h"

namespace zerostep {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr const char* kOption = "--output";

// Seven digits: what a probability in fp32 holds.
std::string number(double value) { return fmt::format("{:.7g}", value); }

// A .tsv file has no quotes.
std::string tab_cell(std::string text) {
  for (char& c : text)
    if (c == '\t' || c == '\n' || c == '\r') c = ' ';
  return text;
}

}  // namespace

PredictionFile::PredictionFile(const std::string& path, std::vector<std::string> classes) : classes_(std::move(classes)) {
  if (path.ends_with(".tsv"))
    kind_ = Kind::Tabs;
  else if (path.ends_with(".csv"))
    kind_ = Kind::Commas;
  else if (path.ends_with(".jsonl"))
    kind_ = Kind::JsonLines;
  else
    fail_input("{} {}: the ending says no kind of table; .tsv, .csv or .jsonl is expected", kOption, path);
  const char separator = kind_ == Kind::Tabs ? '\t' : ',';
  const std::string beginning = kind_ == Kind::JsonLines ? "{\"label\":" : fmt::format("label{0}probability{0}margin{0}", separator);
  check_replaceable(kOption, path, beginning);
  file_.emplace(path, path + ".partial");
  if (kind_ == Kind::JsonLines) return;
  std::string header = beginning;
  header.pop_back();
  for (const std::string& name : classes_) {
    const std::string column = "probability_" + name;
    header += separator + (kind_ == Kind::Tabs ? tab_cell(column) : csv_cell(column));
  }
  write(header + "\n");
}

void PredictionFile::add(std::span<const float> probabilities) {
  const auto best = static_cast<size_t>(std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin());
  double next = 0;
  for (size_t c = 0; c < probabilities.size(); ++c)
    if (c != best) next = std::max<double>(next, probabilities[c]);
  const double probability = probabilities[best];
  const std::string margin = number(probability - next);
  if (kind_ == Kind::JsonLines) {
    std::string all;
    for (size_t c = 0; c < probabilities.size(); ++c)
      all += fmt::format("{}{}:{}", all.empty() ? "" : ",", nlohmann::json(classes_[c]).dump(), number(probabilities[c]));
    return write(fmt::format("{{\"label\":{},\"probability\":{},\"margin\":{},\"probabilities\":{{{}}}}}\n",
                             nlohmann::json(classes_[best]).dump(), number(probability), margin, all));
  }
  const char separator = kind_ == Kind::Tabs ? '\t' : ',';
  std::string row = kind_ == Kind::Tabs ? tab_cell(classes_[best]) : csv_cell(classes_[best]);
  row += separator + number(probability) + separator + margin;
  for (const float p : probabilities) row += separator + number(p);
  write(row + "\n");
}

void PredictionFile::publish() {
  flush();
  file_->publish();
  const std::string folder = std::filesystem::path(file_->target()).parent_path().string();
  sync_directory(Disk::real(), folder.empty() ? "." : folder);
}

void PredictionFile::write(std::string_view text) {
  buffer_ += text;
  if (buffer_.size() >= kBufferBytes) flush();
}

void PredictionFile::flush() {
  std::string_view rest = buffer_;
  while (!rest.empty()) {
    const ssize_t written = Disk::real().write(file_->file(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_run("cannot write {}: {}", file_->path(), disk_failure(errno));
    rest.remove_prefix(static_cast<size_t>(written));
  }
  buffer_.clear();
}

}  // namespace zerostep
