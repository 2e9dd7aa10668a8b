#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/steady_seconds.h"
#include "launch/prediction_file.h"
#include "runtime/data/text_rows.h"
#include "runtime/generate/text_classifier.h"

namespace zerostep {

// The way of tables' texts to their predictions: read, computed and written window by window, whatever the size of the tables. Says where
// it is and how long it will take: a status line on a terminal, a line every ten seconds elsewhere.
class PredictionPass {
 public:
  // Both outlive it. `batch_size`: the classifier's. `now`: the seconds of a clock.
  PredictionPass(const TextClassifier& classifier, int64_t batch_size, PredictionFile& out, std::function<double()> now = steady_seconds);
  // Of the tables' rows, one table after the other; how a text is made of each the source says. The errors of for_each_text, TextClassifier
  // and PredictionFile, which name the tables by the source's key.
  void run(const std::vector<std::string>& inputs, const DocumentSource& source);
  int64_t rows() const { return rows_; }
  // Of the table, which are no rows.
  int64_t blank_lines() const { return blank_lines_; }
  double seconds() const { return seconds_; }
  // What is to be said of the tables' texts, a sentence each.
  const std::vector<std::string>& remarks() const { return remarks_; }

 private:
  void finish_window(const std::string& key);
  void show(double share, int64_t rows);

  const TextClassifier& classifier_;
  PredictionFile& out_;
  size_t most_rows_, bytes_ = 0;
  std::vector<TextRow> window_;
  std::vector<bool> met_;  // fields of the texts' template that some row has had
  std::vector<std::string> remarks_;
  int64_t rows_ = 0, blank_lines_ = 0;
  double share_ = 0;  // of the input that is done
  double start_ = 0, seconds_ = 0, shown_ = 0;
  bool has_terminal_;
  std::function<double()> now_;
};

}  // namespace zerostep
