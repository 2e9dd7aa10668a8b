#include "models/tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"
#include "models/tokenizer/normalization.h"
#include "models/tokenizer/split_pattern.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

bool is_ascii_alphanumeric(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// The families' patterns as their files write them.
struct KnownPattern {
  PreTokenizer::Pattern pattern;
  std::string_view text;
};
constexpr std::array<KnownPattern, 3> kKnownPatterns = {
    {{PreTokenizer::Pattern::Gpt2, R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
     {PreTokenizer::Pattern::Llama3,
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
     {PreTokenizer::Pattern::Qwen2,
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}};

// What DeepSeek's tokenizers cut by first; and all that those of its third version cut by.
constexpr std::string_view kLineEnds = "[\r\n]";
constexpr std::array<std::string_view, 3> kDeepSeek3 = {
    R"(\p{N}{1,3})", "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
    "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"};

// The same with common parts factored out and possessive where giving back could not lead to a match.
std::string pattern_text(PreTokenizer::Pattern pattern) {
  const std::string_view space = white_space_class(), letters = letter_class(), numbers = number_class();
  if (pattern == PreTokenizer::Pattern::Gpt2) {
    return fmt::format("'(?:[stmd]|re|ve|ll)| ?+(?:[{1}]++|[{2}]++|[^{0}{1}{2}]++)|[{0}]+(?![^{0}])|[{0}]+", space, letters, numbers);
  }
  return fmt::format(
      "'(?i:[stmd]|re|ve|ll)|[^\\r\\n{1}{2}]?+[{1}]++|[{2}]{3}| ?+[^{0}{1}{2}]++[\\r\\n]*+|[{0}]*[\\r\\n]++|[{0}]+(?![^{0}])|[{0}]+", space,
      letters, numbers, pattern == PreTokenizer::Pattern::Llama3 ? "{1,3}+" : "");
}

}  // namespace

std::optional<PreTokenizer::Pattern> PreTokenizer::known_pattern(std::string_view text) {
  for (const KnownPattern& known : kKnownPatterns) {
    if (text == known.text) return known.pattern;
  }
  return std::nullopt;
}

PreTokenizer::PreTokenizer(Rule rule) : rule_(std::move(rule)), code_(nullptr, pcre2_code_free) {
  if (is_numbers()) return;
  const bool other = is_other();
  const std::string pattern = other ? split_pattern(rule_.regex).value() : pattern_text(rule_.pattern);
  cuts_at_line_ends_ = other && pattern == split_pattern(kLineEnds);
  parts_words_ =
      !other || std::any_of(kDeepSeek3.begin(), kDeepSeek3.end(), [&](std::string_view known) { return pattern == split_pattern(known); });
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | (other ? 0 : PCRE2_ANCHORED), &error, &offset, nullptr));
  if (!code_) {
    std::array<PCRE2_UCHAR, 256> text{};
    pcre2_get_error_message(error, text.data(), text.size());
    fail_run("PCRE2 does not compile the pre-tokenizer's pattern: {} at offset {}; PCRE2 must be built with Unicode support",
             reinterpret_cast<const char*>(text.data()), offset);
  }
  is_compiled_ = pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE) == 0;
}

PreTokenizer::ScratchPointer PreTokenizer::make_scratch() const {
  ScratchPointer scratch(pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  if (!scratch) throw std::bad_alloc();
  return scratch;
}

size_t PreTokenizer::number_end(std::string_view text, size_t begin) const {
  std::string_view rest = text.substr(begin);
  const bool numbers = is_number(take_code_point(rest));
  while (!rest.empty() && !(numbers && rule_.pattern == Pattern::EachNumber)) {
    std::string_view behind = rest;
    if (is_number(take_code_point(behind)) != numbers) break;
    rest = behind;
  }
  return text.size() - rest.size();
}

size_t PreTokenizer::piece_end(std::string_view text, size_t begin, Scratch& scratch) const {
  if (is_numbers()) return number_end(text, begin);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto match = is_compiled_ ? pcre2_jit_match : pcre2_match;
  const int matched = match(code_.get(), subject, text.size(), begin, PCRE2_NO_UTF_CHECK, &scratch, nullptr);
  if (matched == PCRE2_ERROR_NOMATCH && is_other()) return text.size();
  // With one pair of offsets and no group, a match gives 1.
  if (matched != 1) fail_protocol("the pre-tokenizer finds no piece at byte {} of {}: PCRE2 returns {}", begin, text.size(), matched);
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(&scratch);
  return ends[0] > begin ? ends[0] : ends[1];  // what stands before a match is a piece too
}

size_t PreTokenizer::safe_cut(std::string_view text, size_t at, bool only_spaces) const {
  // Every white space character beyond ASCII, by its last bytes.
  const auto follows_space = [&](size_t p) {
    const auto byte = [&](size_t back) -> unsigned { return p >= back ? static_cast<unsigned char>(text[p - back]) : 0; };
    const unsigned last = byte(1), second = byte(2), third = byte(3);
    if (last < 0x80) return last == ' ' || (last >= '\t' && last <= '\r');
    if (second == 0xC2) return last == 0x85 || last == 0xA0;
    if (third == 0xE1) return second == 0x9A && last == 0x80;
    if (third == 0xE3) return second == 0x80 && last == 0x80;
    if (third != 0xE2) return false;
    return (second == 0x80 && (last <= 0x8A || last == 0xA8 || last == 0xA9 || last == 0xAF)) || (second == 0x81 && last == 0x9F);
  };
  for (size_t p = std::max<size_t>(at, 1); p < text.size(); ++p) {
    const char c = text[p];
    if (c != ' ' && (only_spaces || c < '\t' || c > '\r')) continue;
    // All patterns but GPT-2's draw line ends to the punctuation before them.
    if (rule_.pattern != Pattern::Gpt2 && (c == '\n' || c == '\r') && !is_ascii_alphanumeric(text[p - 1])) continue;
    if (!follows_space(p)) return p;
  }
  return text.size();
}

}  // namespace zerostep
