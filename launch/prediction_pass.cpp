#include "launch/prediction_pass.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>

#include "base/console.h"
#include "base/format.h"
#include "runtime/data/text_remarks.h"
#include "runtime/data/text_template.h"

namespace zerostep {
namespace {

// Rows that are sorted by length together: at most so many batches, and bytes of text.
constexpr size_t kWindowBatches = 256, kWindowBytes = size_t{32} << 20;
constexpr double kSecondsBetweenLines = 10, kSecondsBetweenStatuses = 0.1;

}  // namespace

PredictionPass::PredictionPass(const TextClassifier& classifier, int64_t batch_size, PredictionFile& out, std::function<double()> now)
    : classifier_(classifier),
      out_(out),
      most_rows_(kWindowBatches * static_cast<size_t>(batch_size)),
      has_terminal_(::isatty(STDERR_FILENO) != 0),
      now_(std::move(now)) {}

void PredictionPass::run(const std::vector<std::string>& inputs, const DocumentSource& source) {
  start_ = now_();
  double all = 0, before = 0;  // bytes of the files
  for (const std::string& input : inputs) all += static_cast<double>(std::filesystem::file_size(input));
  for (const std::string& input : inputs) {
    const auto bytes = static_cast<double>(std::filesystem::file_size(input));
    const auto take = [&](TextRow row) {
      bytes_ += row.text.size();
      row.share_read = (before + row.share_read * bytes) / std::max(all, 1.0);
      window_.push_back(std::move(row));
      if (window_.size() >= most_rows_ || bytes_ >= kWindowBytes) finish_window(source.key);
    };
    blank_lines_ += for_each_text(input, source, take, &met_);
    before += bytes;
  }
  finish_window(source.key);
  remarks_ = TextRemarks{.stray_byte = {}, .absent_fields = absent_fields(met_, 0)}.sentences(inputs, source, TextTemplate(source));
  seconds_ = now_() - start_;
  if (has_terminal_) show_status("");
}

void PredictionPass::finish_window(const std::string& key) {
  if (window_.empty()) return;
  const auto count = static_cast<double>(window_.size());
  const double from = share_, to = window_.back().share_read;
  const std::vector<float> all = classifier_.probabilities(
      window_, [&](const TextRow& row) { return fmt::format("{}: {}", key, row.place); },
      [&](double share) { show(from + share * (to - from), rows_ + static_cast<int64_t>(share * count)); });
  const auto classes = static_cast<size_t>(classifier_.num_classes());
  for (size_t i = 0; i < window_.size(); ++i) out_.add(std::span(all).subspan(i * classes, classes));
  rows_ += std::ssize(window_);
  share_ = to;
  window_.clear();
  bytes_ = 0;
}

void PredictionPass::show(double share, int64_t rows) {
  const double seconds = now_() - start_;
  if (share <= 0 || seconds - shown_ < (has_terminal_ ? kSecondsBetweenStatuses : kSecondsBetweenLines)) return;
  shown_ = seconds;
  const std::string text = fmt::format("{} rows ({:.0f} %) | {} rows/s | {} left", grouped(rows), 100 * share,
                                       human_count(static_cast<double>(rows) / seconds), human_duration(seconds * (1 / share - 1)));
  has_terminal_ ? show_status(text) : print_err("{}\n", text);
}

}  // namespace zerostep
