#include "runtime/data/prompt_template.h"

#include <algorithm>

#include "base/error.h"
#include "base/nth.h"

namespace zerostep {
namespace {

constexpr std::string_view kText = "{text}", kLabel = "{label}";

size_t only(const std::string& text, std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string::npos || text.find(name, at + 1) != std::string::npos)
    fail_input("data.template is '{}'; {} is expected in it once", text, name);
  return at;
}

}  // namespace

EncodedText encode_plain(const Tokenizer& tokenizer, std::string_view text, int64_t max_tokens) {
  EncodedText out;
  out.tokens = tokenizer.prefix();
  const std::vector<int32_t> suffix = tokenizer.suffix();
  const auto around = static_cast<int64_t>(out.tokens.size() + suffix.size());
  if (around >= max_tokens) {
    fail_input("data.sequence_length is {}, and {} tokens go around every text: {} or more are expected", max_tokens, around, around + 1);
  }
  tokenizer.encode(text, out.tokens);
  const auto room = static_cast<size_t>(max_tokens) - suffix.size();
  out.truncated = out.tokens.size() > room;
  if (out.truncated) out.tokens.resize(room);
  out.tokens.insert(out.tokens.end(), suffix.begin(), suffix.end());
  out.label_position = static_cast<int64_t>(out.tokens.size());
  return out;
}

PromptTemplate::PromptTemplate(const std::string& text, const std::vector<std::string>& words, bool masked, const Tokenizer& tokenizer)
    : masked_(masked) {
  const size_t text_at = only(text, kText), label_at = only(text, kLabel);
  if (text_at > label_at) fail_input("data.template is '{}'; {} is expected before {}", text, kText, kLabel);
  prefix_ = text.substr(0, text_at);
  infix_ = text.substr(text_at + kText.size(), label_at - text_at - kText.size());
  const bool space = infix_.ends_with(' ');
  if (space) infix_.pop_back();
  if (masked) {
    tokenizer.encode(std::string_view(text).substr(label_at + kLabel.size()), after_);
    const std::vector<int32_t> suffix = tokenizer.suffix();
    after_.insert(after_.end(), suffix.begin(), suffix.end());
  }
  for (const std::string& word : words) {
    std::vector<int32_t> tokens;
    tokenizer.encode_rest((space ? " " : "") + word, tokens);
    if (word.empty() || tokens.empty()) fail_input("data.label_words: '{}' has no tokens; a word is expected for each label", word);
    if (std::find(words_.tokens.begin(), words_.tokens.end(), tokens) != words_.tokens.end())
      fail_input("data.label_words: '{}' has the same tokens as another word: labels could not be told apart", word);
    longest_word_ = std::max(longest_word_, std::ssize(tokens));
    words_.tokens.push_back(std::move(tokens));
  }
  if (words_.tokens.size() < 2)
    fail_input("data.label_words names {} words; one for each of at least two labels is expected", words_.tokens.size());
  const bool same_length =
      std::all_of(words_.tokens.begin(), words_.tokens.end(), [&](const auto& w) { return std::ssize(w) == longest_word_; });
  words_.share_row = masked ? same_length : longest_word_ == 1;
  if (masked) {
    if (!tokenizer.mask()) fail_input("data.template needs a token to be predicted, but data.tokenizer has no mask token");
    mask_ = *tokenizer.mask();
  }
  identity_ = fmt::format("prompt-1 {} {}", masked, text);
  for (const auto& word : words_.tokens) identity_ += fmt::format("|{}", fmt::join(word, " "));
}

std::vector<std::vector<int32_t>> PromptTemplate::rows(const EncodedText& prompt) const {
  const auto at = prompt.tokens.begin() + prompt.label_position;
  std::vector<std::vector<int32_t>> out;
  for (int64_t i = 0; i < words_.rows_per_sample(); ++i) {
    const std::vector<int32_t>& word = nth(words_.tokens, i);
    std::vector<int32_t> row(prompt.tokens.begin(), at);
    if (masked_) {
      row.insert(row.end(), word.size(), mask_);
      row.insert(row.end(), at, prompt.tokens.end());
    } else {
      row.insert(row.end(), word.begin(), word.end() - 1);
    }
    out.push_back(std::move(row));
  }
  return out;
}

std::vector<int32_t> PromptTemplate::head_of(const Tokenizer& tokenizer, std::string_view text) const {
  std::vector<int32_t> head = tokenizer.prefix();
  tokenizer.encode(prefix_ + std::string(text) + infix_, head);
  return head;
}

EncodedText PromptTemplate::encode(const Tokenizer& tokenizer, std::string_view text, int64_t max_tokens) const {
  EncodedText out;
  const int64_t room = max_tokens - longest_word_ - std::ssize(after_);
  out.tokens = head_of(tokenizer, text);
  if (std::ssize(out.tokens) > room) {
    const int64_t least = std::ssize(head_of(tokenizer, ""));
    if (least > room) {
      fail_input("data.sequence_length is {}, but data.template alone has {} tokens with its longest label word: set it to at least that",
                 max_tokens, least + max_tokens - room);
    }
    out.truncated = true;
    std::vector<int32_t> text_tokens;
    tokenizer.encode(text, text_tokens);
    // The joints may cost or save a token.
    for (int64_t keep = std::min<int64_t>(std::ssize(text_tokens), room - least); std::ssize(out.tokens) > room; --keep) {
      if (keep <= 0) {
        out.tokens = head_of(tokenizer, "");
        break;
      }
      text_tokens.resize(static_cast<size_t>(keep));
      out.tokens = head_of(tokenizer, tokenizer.decode(text_tokens));
    }
  }
  out.label_position = std::ssize(out.tokens);
  out.tokens.insert(out.tokens.end(), after_.begin(), after_.end());
  return out;
}

}  // namespace zerostep
