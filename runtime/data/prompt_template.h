#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/prompt_classifier.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {

// The tokens of a sample; those of a prompt come in two parts, before and after the label word.
struct EncodedText {
  std::vector<int32_t> tokens;
  int64_t label_position = 0;  // of the label word's first token; tokens.size() where nothing follows
  bool truncated = false;
};

// A text between the tokenizer's prefix and suffix, the text cut so that all have at most `max_tokens`. InputError when not even one token
// of text fits.
EncodedText encode_plain(const Tokenizer& tokenizer, std::string_view text, int64_t max_tokens);

// "... {text} ... {label} ...": the prompt that turns a language model into a classifier by its scores of the label words (Malladi et al.,
// "Fine-tuning language models with just forward passes", 2023). `data.template` and `data.label_words`.
//
// What stands before {label}, with the text in place, is tokenized as one; a space right before {label} goes to the word ("It was {label}"
// and "great" give "It was" and " great"), so that a word is what it would be inside a text. What stands after it is read by masked models
// alone and tokenized by itself.
class PromptTemplate {
 public:
  // `words`: one for each class, in order. A masked model reads the tokenizer's mask token in place of each token of a word.
  // InputError: no {text} or {label} or more than one, {text} after {label}, a word that is empty or the same as another, masked without
  // a mask token.
  PromptTemplate(const std::string& text, const std::vector<std::string>& words, bool masked, const Tokenizer& tokenizer);

  // The prompt of a text without its label word; with the longest word at most `max_tokens`, the text cut at its end if need be. InputError
  // when the prompt is longer without any text.
  EncodedText encode(const Tokenizer& tokenizer, std::string_view text, int64_t max_tokens) const;

  // They share a row where every word is a single token, or the model is masked and all words have the same number of tokens.
  const LabelWords& words() const { return words_; }
  bool masked() const { return masked_; }
  int32_t mask() const { return mask_; }
  // The rows of a sample in a batch: with each word in place, or a mask token for each of its tokens. A causal model reads all but the
  // last.
  std::vector<std::vector<int32_t>> rows(const EncodedText& prompt) const;
  // The token of these rows whose logits predict the word's first one: a causal model predicts a token one position before it.
  int64_t word_position(const EncodedText& prompt) const { return prompt.label_position - (masked_ ? 0 : 1); }
  // Everything that decides a prompt's tokens.
  const std::string& identity() const { return identity_; }

 private:
  std::vector<int32_t> head_of(const Tokenizer& tokenizer, std::string_view text) const;

  std::string prefix_, infix_;  // around {text}; infix_ ends where {label} begins, but for a space
  std::vector<int32_t> after_;
  LabelWords words_;
  int64_t longest_word_ = 0;
  bool masked_;
  int32_t mask_ = -1;
  std::string identity_;
};

}  // namespace zerostep
