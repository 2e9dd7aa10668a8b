#include "models/tokenizer/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"

namespace zerostep {
namespace {

// White_Space. PCRE2's own \s also takes U+180E, which Unicode has not counted as a space since version 6.3.
constexpr const char* kSpace = "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
// PCRE2's tables may be those of Unicode 14 (version 10.42): the letters and numbers that 15 and 16 added.
constexpr const char* kNewerLetters =
    "\\x{1C89}\\x{1C8A}\\x{A7CB}-\\x{A7CD}\\x{A7DA}-\\x{A7DC}\\x{105C0}-\\x{105F3}\\x{10D4A}-\\x{10D65}\\x{10D6F}-\\x{10D85}\\x{10EC2}-\\x{"
    "10EC4}"
    "\\x{1123F}\\x{11240}\\x{11380}-\\x{11389}\\x{1138B}\\x{1138E}\\x{11390}-\\x{113B5}\\x{113B7}\\x{113D1}\\x{113D3}\\x{11BC0}-\\x{11BE0}"
    "\\x{11F02}\\x{11F04}-\\x{11F10}\\x{11F12}-\\x{11F33}\\x{1342F}\\x{13441}-\\x{13446}\\x{13460}-\\x{143FA}\\x{16100}-\\x{1611D}"
    "\\x{16D40}-\\x{16D6C}\\x{18CFF}\\x{1B132}\\x{1B155}\\x{1DF25}-\\x{1DF2A}\\x{1E030}-\\x{1E06D}\\x{1E4D0}-\\x{1E4EB}\\x{1E5D0}-\\x{"
    "1E5ED}"
    "\\x{1E5F0}\\x{2B739}\\x{2EBF0}-\\x{2EE5D}\\x{31350}-\\x{323AF}";
constexpr const char* kNewerNumbers =
    "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11F50}-\\x{11F59}\\x{16130}-\\x{16139}\\x{16D70}-\\x{16D79}"
    "\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}";

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

// The same with common parts factored out and possessive where giving back could not lead to a match.
std::string pattern_text(PreTokenizer::Pattern pattern) {
  const std::string letters = fmt::format("\\p{{L}}{}", kNewerLetters), numbers = fmt::format("\\p{{N}}{}", kNewerNumbers);
  if (pattern == PreTokenizer::Pattern::Gpt2) {
    return fmt::format("'(?:[stmd]|re|ve|ll)| ?+(?:[{1}]++|[{2}]++|[^{0}{1}{2}]++)|[{0}]+(?![^{0}])|[{0}]+", kSpace, letters, numbers);
  }
  return fmt::format(
      "'(?i:[stmd]|re|ve|ll)|[^\\r\\n{1}{2}]?+[{1}]++|[{2}]{3}| ?+[^{0}{1}{2}]++[\\r\\n]*+|[{0}]*[\\r\\n]++|[{0}]+(?![^{0}])|[{0}]+",
      kSpace, letters, numbers, pattern == PreTokenizer::Pattern::Llama3 ? "{1,3}+" : "");
}

}  // namespace

std::optional<PreTokenizer::Pattern> PreTokenizer::known_pattern(std::string_view text) {
  for (const KnownPattern& known : kKnownPatterns) {
    if (text == known.text) return known.pattern;
  }
  return std::nullopt;
}

PreTokenizer::PreTokenizer(Pattern kind) : kind_(kind), code_(nullptr, pcre2_code_free) {
  const std::string pattern = pattern_text(kind);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error,
                            &offset, nullptr));
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

size_t PreTokenizer::piece_end(std::string_view text, size_t begin, Scratch& scratch) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto match = is_compiled_ ? pcre2_jit_match : pcre2_match;
  const int matched = match(code_.get(), subject, text.size(), begin, PCRE2_NO_UTF_CHECK, &scratch, nullptr);
  // With one pair of offsets and no group, a match gives 1.
  if (matched != 1) fail_protocol("the pre-tokenizer finds no piece at byte {} of {}: PCRE2 returns {}", begin, text.size(), matched);
  return pcre2_get_ovector_pointer(&scratch)[1];
}

size_t PreTokenizer::safe_cut(std::string_view text, size_t at) const {
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
    if (c != ' ' && (c < '\t' || c > '\r')) continue;
    // All patterns but GPT-2's draw line ends to the punctuation before them.
    if (kind_ != Pattern::Gpt2 && (c == '\n' || c == '\r') && !is_ascii_alphanumeric(text[p - 1])) continue;
    if (!follows_space(p)) return p;
  }
  return text.size();
}

}  // namespace zerostep
