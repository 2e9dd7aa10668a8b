#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/nth.h"
#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {

// The tokens of a tokenizer that is read from files, whatever cuts its texts.
struct Vocabulary {
  std::vector<std::string> text_of_token = {};  // by id, its bytes; empty: the id is unused
  std::vector<AddedToken> added_tokens = {};
  std::vector<int32_t> prefix = {}, suffix = {};
  int32_t end_of_document = -1;
  std::optional<int32_t> mask = {};
};

// A tokenizer whose parts are a Vocabulary and how it cuts texts.
template <typename Parts>
class VocabularyTokenizer : public Tokenizer {
 public:
  int64_t vocabulary_size() const override { return static_cast<int64_t>(vocabulary_.text_of_token.size()); }
  int32_t end_of_document() const override { return vocabulary_.end_of_document; }
  std::vector<int32_t> prefix() const override { return vocabulary_.prefix; }
  std::vector<int32_t> suffix() const override { return vocabulary_.suffix; }
  std::optional<int32_t> mask() const override { return vocabulary_.mask; }
  bool has_text(int32_t token) const override {
    return token >= 0 && token < vocabulary_size() && !nth(vocabulary_.text_of_token, token).empty();
  }
  std::string fingerprint() const override { return fingerprint_; }

 protected:
  // `hash_of` gives what tells the tokenizer from others.
  VocabularyTokenizer(Parts vocabulary, std::string (*hash_of)(const Parts&))
      : vocabulary_(std::move(vocabulary)), fingerprint_(hash_of(vocabulary_)) {}

  // Of a token to be decoded. InputError where it has none.
  std::string_view text_of(int32_t token) const {
    if (!has_text(token)) {
      fail_input("token {} is not in the tokenizer's vocabulary of {}: decode with the tokenizer of the model that made it", token,
                 vocabulary_size());
    }
    return nth(vocabulary_.text_of_token, token);
  }

  Parts vocabulary_;

 private:
  std::string fingerprint_;
};

}  // namespace zerostep
