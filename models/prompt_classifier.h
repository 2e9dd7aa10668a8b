#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "models/model.h"

namespace zerostep {

// The words that stand for the classes in a prompt, as tokens.
struct LabelWords {
  std::vector<std::vector<int32_t>> tokens;  // one for each class
  // All words are read off one row of the batch: each is a single token, or all have the same number of tokens that the row masks.
  // Otherwise a sample has a row for each word, in the order of the classes.
  bool share_row = false;
  int64_t num_classes() const { return static_cast<int64_t>(tokens.size()); }
  int64_t rows_per_sample() const { return share_row ? 1 : num_classes(); }
};

// A model that predicts tokens as a classifier by its scores of the words: logits [B, classes], which are the sums of the log-probabilities
// of each word's tokens, or, where every word is a single token of one row, that token's logits (the same up to a constant of the sample).
// The same parameters and units; the head sees only the tokens that predict words. A batch has B * rows_per_sample() rows, sample-major,
// and says in word_positions where the words are. ProtocolError when the model is a classifier.
std::unique_ptr<ModelDefinition> make_prompt_classifier(std::unique_ptr<ModelDefinition> model, LabelWords words);

}  // namespace zerostep
