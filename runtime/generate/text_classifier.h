#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "runtime/data/text_rows.h"
#include "runtime/generate/plain_model.h"

namespace zerostep {

// The classes of texts by a model that classifies samples. Texts are cut to what the model sees.
class TextClassifier {
 public:
  // Both outlive it. ProtocolError for a model that predicts tokens.
  TextClassifier(const PlainModel& model, const Tokenizer& tokenizer, int64_t batch_size);

  // Probabilities [rows, classes] of rows, in their order: they are computed in the order of their lengths, `batch_size` at a time, so
  // that little is padded. `done(share)` is called behind each batch. `place(row)` says where a row stands, for messages. InputError: a
  // text without a token, or with one that the model's vocabulary lacks; RunError where the model gives no finite numbers.
  std::vector<float> probabilities(const std::vector<TextRow>& rows, const std::function<std::string(const TextRow&)>& place,
                                   const std::function<void(double share)>& done) const;
  int64_t num_classes() const { return model_.definition().num_classes(); }
  // Of all rows so far: texts that were cut.
  int64_t num_truncated() const { return num_truncated_; }

 private:
  std::vector<std::vector<int32_t>> encode(const std::vector<TextRow>& rows, const std::function<std::string(const TextRow&)>& place) const;

  const PlainModel& model_;
  const Tokenizer& tokenizer_;
  int64_t batch_size_;
  int32_t padding_;
  mutable int64_t num_truncated_ = 0;
};

}  // namespace zerostep
