#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

// PCRE2's own names of a pattern and of what a match needs, for texts of 8-bit units.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace zerostep {

// Cuts text into the pieces that byte-pair encoding never merges across, by the pattern of GPT-2
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// or of Llama 3
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
// or of Qwen2 (the same with numbers cut into single characters),
// with \s as Unicode's White_Space and letters and numbers as of Unicode 16; or at numbers, each of them or runs of them (Digits of a
// tokenizer.json).
class PreTokenizer {
 public:
  // Working memory of one thread.
  using Scratch = pcre2_real_match_data_8;
  using ScratchPointer = std::unique_ptr<Scratch, void (*)(Scratch*)>;

  enum class Pattern : uint8_t { Gpt2, Llama3, Qwen2, EachNumber, Numbers, Other };
  struct Rule {
    Pattern pattern = Pattern::Gpt2;
    std::string regex = {};  // of the pattern Other, which split_pattern can write: its matches and what stands between them
  };
  // The pattern that a tokenizer.json writes so; nothing for any other.
  static std::optional<Pattern> known_pattern(std::string_view text);

  explicit PreTokenizer(Pattern pattern) : PreTokenizer(Rule{pattern}) {}
  explicit PreTokenizer(Rule rule);

  ScratchPointer make_scratch() const;
  // End of the piece that begins at `begin`, itself the end of the piece before it (or 0) and below text.size(). The text is well-formed
  // UTF-8.
  size_t piece_end(std::string_view text, size_t begin, Scratch& scratch) const;

  bool is_numbers() const { return rule_.pattern == Pattern::EachNumber || rule_.pattern == Pattern::Numbers; }
  bool is_other() const { return rule_.pattern == Pattern::Other; }
  // Whether every line end is a piece by itself, of the pattern Other.
  bool cuts_at_line_ends() const { return cuts_at_line_ends_; }
  // Whether every text has a piece boundary between an ASCII letter and a space, or one piece there whose ends do not depend on it.
  bool parts_words() const { return parts_words_; }

  // First position p >= at, p > 0, at which every text that begins as this one does has a piece boundary: a space, tab or line end
  // after a character that is no white space (line ends after letters and digits alone but for GPT-2); `only_spaces`: a space alone.
  // text.size() when there is none. Any bytes. Not of numbers and Other.
  size_t safe_cut(std::string_view text, size_t at, bool only_spaces = false) const;

 private:
  size_t number_end(std::string_view text, size_t begin) const;

  Rule rule_;
  std::unique_ptr<pcre2_real_code_8, void (*)(pcre2_real_code_8*)> code_;
  bool cuts_at_line_ends_ = false, parts_words_ = true;
  bool is_compiled_ = false;  // to the machine's instructions
};

}  // namespace zerostep
