#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/nth.h"

namespace zerostep {

// How often each label met each prediction, and the loss. Ranks add up their counts by summing values() and the two loss members.
class ConfusionCounts {
 public:
  explicit ConfusionCounts(int64_t num_labels);
  void add(int64_t label, int64_t prediction, int64_t count = 1);
  ConfusionCounts& operator+=(const ConfusionCounts& other);

  int64_t num_labels() const { return num_labels_; }
  int64_t at(int64_t label, int64_t prediction) const { return nth(values_, label * num_labels_ + prediction); }
  // [label][prediction], num_labels * num_labels of them.
  std::vector<int64_t>& values() { return values_; }
  const std::vector<int64_t>& values() const { return values_; }

  double loss_sum = 0;
  int64_t loss_count = 0;  // what the sum is divided by

 private:
  int64_t num_labels_;
  std::vector<int64_t> values_;
};

// A quotient of 0 by 0 counts as 0.
struct ClassScores {
  double precision = 0, recall = 0, f1 = 0;
  int64_t support = 0, predicted = 0;  // samples of the class, predictions of it
};
struct ClassificationScores {
  int64_t num_samples = 0;
  double loss = 0, accuracy = 0;
  std::vector<ClassScores> classes;
  // Means over the classes that occur among labels or predictions, each with the same weight.
  double macro_precision = 0, macro_recall = 0, macro_f1 = 0;
};
ClassificationScores scores_of(const ConfusionCounts& counts);

// A table of the scores and the confusion matrix, rows are labels and columns predictions. `names`: one a class.
std::string classification_text(const ConfusionCounts& counts, const std::vector<std::string>& names);
// {"loss", "accuracy", "samples", "macro": {"precision", "recall", "f1"}, "classes": [{"label", "name", "precision", "recall", "f1",
// "support"}], "confusion": [[...]]}
nlohmann::ordered_json classification_json(const ConfusionCounts& counts, const std::vector<std::string>& names);

}  // namespace zerostep
