#include "runtime/report/classification_report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/format.h"

namespace zerostep {
namespace {

constexpr size_t kLongestName = 24;

double quotient(double a, double b) { return b > 0 ? a / b : 0; }

void check_names(const ConfusionCounts& counts, const std::vector<std::string>& names) {
  if (std::ssize(names) != counts.num_labels()) fail_protocol("{} names for a report of {} classes", names.size(), counts.num_labels());
}

// A name that fits a table; whole characters of UTF-8.
std::string short_name(const std::string& name) {
  if (name.size() <= kLongestName) return name;
  size_t end = kLongestName - 3;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xC0) == 0x80) --end;
  return name.substr(0, end) + "...";
}

}  // namespace

ConfusionCounts::ConfusionCounts(int64_t num_labels)
    : num_labels_(num_labels), values_(static_cast<size_t>(std::max<int64_t>(num_labels, 0) * std::max<int64_t>(num_labels, 0))) {
  if (num_labels < 1) fail_protocol("a confusion matrix of {} labels", num_labels);
}

void ConfusionCounts::add(int64_t label, int64_t prediction, int64_t count) {
  if (label < 0 || label >= num_labels_ || prediction < 0 || prediction >= num_labels_)
    fail_protocol("label {} with prediction {} in a confusion matrix of {} labels", label, prediction, num_labels_);
  nth(values_, label * num_labels_ + prediction) += count;
}

ConfusionCounts& ConfusionCounts::operator+=(const ConfusionCounts& other) {
  if (other.num_labels_ != num_labels_) fail_protocol("confusion matrices of {} and {} labels added", num_labels_, other.num_labels_);
  for (size_t i = 0; i < values_.size(); ++i) values_[i] += other.values_[i];
  loss_sum += other.loss_sum;
  loss_count += other.loss_count;
  return *this;
}

ClassificationScores scores_of(const ConfusionCounts& counts) {
  ClassificationScores out;
  const int64_t num_labels = counts.num_labels();
  int64_t right = 0, present = 0;
  for (int64_t c = 0; c < num_labels; ++c) {
    ClassScores scores;
    for (int64_t other = 0; other < num_labels; ++other) {
      scores.support += counts.at(c, other);
      scores.predicted += counts.at(other, c);
    }
    const auto hits = static_cast<double>(counts.at(c, c));
    scores.precision = quotient(hits, static_cast<double>(scores.predicted));
    scores.recall = quotient(hits, static_cast<double>(scores.support));
    scores.f1 = quotient(2 * hits, static_cast<double>(scores.support + scores.predicted));
    right += counts.at(c, c);
    out.num_samples += scores.support;
    if (scores.support + scores.predicted > 0) {
      ++present;
      out.macro_precision += scores.precision;
      out.macro_recall += scores.recall;
      out.macro_f1 += scores.f1;
    }
    out.classes.push_back(scores);
  }
  for (double* mean : {&out.macro_precision, &out.macro_recall, &out.macro_f1}) *mean = quotient(*mean, static_cast<double>(present));
  out.accuracy = quotient(static_cast<double>(right), static_cast<double>(out.num_samples));
  out.loss = quotient(counts.loss_sum, static_cast<double>(counts.loss_count));
  return out;
}

std::string classification_text(const ConfusionCounts& counts, const std::vector<std::string>& names) {
  check_names(counts, names);
  const ClassificationScores scores = scores_of(counts);
  std::vector<std::string> shown;
  size_t width = 5;
  for (const std::string& name : names) {
    shown.push_back(short_name(name));
    width = std::max(width, shown.back().size());
  }
  std::string out =
      fmt::format("loss {:.6f}, accuracy {:.4f} on {} samples\n\n", scores.loss, scores.accuracy, grouped(scores.num_samples));
  out += fmt::format("{:<{}}  precision  recall      F1     samples\n", "label", width);
  const auto row = [&](const std::string& name, double precision, double recall, double f1, int64_t samples) {
    out += fmt::format("{:<{}}  {:>9.4f}  {:.4f}  {:.4f}  {:>10}{}\n", name, width, precision, recall, f1, grouped(samples),
                       samples == 0 ? "  (no samples)" : "");
  };
  for (size_t c = 0; c < shown.size(); ++c) {
    const ClassScores& s = scores.classes[c];
    row(shown[c], s.precision, s.recall, s.f1, s.support);
  }
  row("macro", scores.macro_precision, scores.macro_recall, scores.macro_f1, scores.num_samples);
  out += fmt::format("\n{:<{}}  predicted\n{:<{}}", "label", width, "", width);
  std::vector<size_t> widths;
  for (const std::string& name : shown) {
    widths.push_back(std::max<size_t>(name.size(), 7));
    out += fmt::format("  {:>{}}", name, widths.back());
  }
  out += "\n";
  for (int64_t label = 0; label < counts.num_labels(); ++label) {
    out += fmt::format("{:<{}}", nth(shown, label), width);
    for (int64_t prediction = 0; prediction < counts.num_labels(); ++prediction)
      out += fmt::format("  {:>{}}", grouped(counts.at(label, prediction)), nth(widths, prediction));
    out += "\n";
  }
  return out;
}

nlohmann::ordered_json classification_json(const ConfusionCounts& counts, const std::vector<std::string>& names) {
  check_names(counts, names);
  const ClassificationScores scores = scores_of(counts);
  nlohmann::ordered_json out = {
      {"loss", scores.loss},
      {"accuracy", scores.accuracy},
      {"samples", scores.num_samples},
      {"macro", {{"precision", scores.macro_precision}, {"recall", scores.macro_recall}, {"f1", scores.macro_f1}}},
      {"classes", nlohmann::ordered_json::array()},
      {"confusion", nlohmann::ordered_json::array()}};
  for (int64_t c = 0; c < counts.num_labels(); ++c) {
    const ClassScores& s = nth(scores.classes, c);
    out["classes"].push_back(
        {{"label", c}, {"name", nth(names, c)}, {"precision", s.precision}, {"recall", s.recall}, {"f1", s.f1}, {"support", s.support}});
    const auto begin = counts.values().begin() + c * counts.num_labels();
    out["confusion"].push_back(std::vector<int64_t>(begin, begin + counts.num_labels()));
  }
  return out;
}

}  // namespace zerostep
