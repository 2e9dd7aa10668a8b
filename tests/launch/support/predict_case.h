#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tests/launch/support/run_binary.h"

namespace zerostep::testing {

inline std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) out.push_back(part);
  return out;
}

// A classifier that has learned which of two words a sentence holds, and what `predict` says of it.
class Predict : public ::testing::Test {
 protected:
  // One classifier for all tests of a process.
  static void SetUpTestSuite() {
    place_ = std::make_unique<Workplace>();
    place_->write("train.tsv", "text\tlabel\n" + rows(96, true));
    place_->write("run.json", R"({
      "train_batch_size": 8, "train_micro_batch_size_per_gpu": 8, "seed": 3,
      "optimizer": {"type": "AdamW", "params": {"lr": 0.003}},
      "model": {"family": "bert", "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
                "max_position_embeddings": 64, "classifier_pooling": "mean"},
      "data": {"train": ")" + place_->path("train.tsv") +
                                  R"(", "eval": ")" + place_->path("train.tsv") + R"(", "sequence_length": 64},
      "run": {"name": "test", "output_dir": ")" +
                                  place_->path("runs") + R"(", "steps": 60, "checkpoint_interval": 60}})");
    ASSERT_EQ(place_->run({"train", place_->path("run.json")}).status, 0);
    ASSERT_EQ(place_->run({"export", place_->path("runs/test/checkpoints/step_00000060"), place_->path("model")}).status, 0);
  }
  static void TearDownTestSuite() { place_.reset(); }

  // Of very different lengths; every eighth says the other word.
  static std::string sentence(int i) {
    std::string text = (i % 3 == 0) != (i % 8 == 5) ? "good" : "bad";
    for (int w = 0; w < i * 5 % 9; ++w) text = (w % 2 == 0 ? "so " : "very ") + text;
    return text;
  }
  static std::string rows(int count, bool labelled) {
    std::string out;
    for (int i = 0; i < count; ++i) out += sentence(i) + (labelled ? i % 3 == 0 ? "\tyes" : "\tno" : "") + "\n";
    return out;
  }
  static Outcome predict(const std::string& input, const std::string& output, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"predict",           "--model",  place_->path("model"), "--input",
                                       place_->path(input), "--output", place_->path(output)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return place_->run(arguments);
  }
  struct Row {
    std::string label;
    double probability, margin, no, yes;
  };
  static std::vector<Row> table(const std::string& name) {
    std::vector<Row> out;
    std::vector<std::string> lines = split(place_->read(name), '\n');
    EXPECT_EQ(lines.at(0), "label\tprobability\tmargin\tprobability_no\tprobability_yes");
    for (size_t i = 1; i < lines.size(); ++i) {
      const auto cells = split(lines[i], '\t');
      out.push_back({cells.at(0), std::stod(cells.at(1)), std::stod(cells.at(2)), std::stod(cells.at(3)), std::stod(cells.at(4))});
    }
    return out;
  }

  static inline std::unique_ptr<Workplace> place_;
};

}  // namespace zerostep::testing
