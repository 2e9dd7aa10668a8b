#include "models/tokenizer/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "models/tokenizer/table_rows.h"
#include "models/tokenizer/unicode_tables.h"
#include "models/tokenizer/utf8.h"

namespace zerostep {
namespace {

// White_Space. PCRE2's own \s also takes U+180E, which Unicode has not counted as a space since version 6.3.
constexpr std::string_view kSpace = "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
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

std::string class_of(std::string_view table) {
  std::string out;
  for (const CodePointRange& range : unpacked<CodePointRange>(table))
    out += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", range.first, range.last);
  return out;
}

// The class of a category, by its letter.
std::optional<std::string> category_class(std::string_view name) {
  if (name == "L") return std::string(letter_class());
  if (name == "N") return std::string(number_class());
  if (name == "M") return class_of(kMarks);
  if (name == "P") return class_of(kPunctuation);
  if (name == "S") return class_of(kSymbols);
  return std::nullopt;
}

// Writes a pattern part by part; each function takes what it knows off the front and fails where that is something else.
class Writer {
 public:
  explicit Writer(std::string_view regex) : rest_(regex) {}

  std::optional<std::string> write() {
    while (!rest_.empty())
      if (!write_part()) return std::nullopt;
    return depth_ == 0 ? std::optional(out_) : std::nullopt;
  }

 private:
  bool take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  bool write_part() {
    if (take("(?!\\S)")) return add(fmt::format("(?![^{}])", white_space_class()), false);
    if (take("(?:")) return open();
    if (rest_.starts_with("(?") || rest_.starts_with("(*")) return false;
    if (take("(")) return open();
    if (take(")")) return add(")", true) && --depth_ >= 0;
    if (take("|")) return add("|", false);
    if (take("$")) return add("(?=\n|\\z)", false);
    if (take("[")) return write_class();
    if (rest_.front() == '*' || rest_.front() == '+' || rest_.front() == '?' || rest_.front() == '{') return write_quantifier();
    if (rest_.front() == '^' || rest_.front() == '.' || rest_.front() == '}' || rest_.front() == ']') return false;
    std::string in_class;
    bool negated = false;
    if (!take_character(in_class, negated)) return false;
    return add(fmt::format("[{}{}]", negated ? "^" : "", in_class), true);
  }

  bool open() {
    ++depth_;
    return add("(?:", false);
  }

  bool add(std::string_view text, bool may_repeat) {
    out_ += text;
    may_repeat_ = may_repeat;
    return true;
  }

  // Greedy alone: in Ruby's syntax a second sign means another thing behind braces.
  bool write_quantifier() {
    if (!may_repeat_) return false;
    size_t length = 1;
    if (rest_.front() == '{') {
      const size_t end = rest_.find('}');
      const std::string_view inside = rest_.substr(1, end == std::string_view::npos ? 0 : end - 1);
      const bool numbers = std::all_of(inside.begin(), inside.end(), [](char c) { return (c >= '0' && c <= '9') || c == ','; });
      if (inside.empty() || inside.front() == ',' || !numbers || std::count(inside.begin(), inside.end(), ',') > 1) return false;
      length = end + 1;
    }
    out_ += rest_.substr(0, length);
    rest_.remove_prefix(length);
    may_repeat_ = false;
    return true;
  }

  bool write_class() {
    std::string text = take("^") ? "[^" : "[";
    if (rest_.starts_with(']')) return false;
    while (!take("]")) {
      bool negated = false;
      const bool several = names_several();
      if (rest_.empty() || rest_.front() == '[' || rest_.starts_with("&&") || !take_character(text, negated) || negated) return false;
      if (rest_.starts_with("-]") || !take("-")) continue;
      text += '-';
      if (several || rest_.empty() || rest_.front() == '[' || names_several() || !take_character(text, negated)) return false;
    }
    return add(text + "]", true);
  }

  bool names_several() const { return rest_.starts_with("\\p") || rest_.starts_with("\\s") || rest_.starts_with("\\S"); }

  // One character, or what stands for several, as it is written in a class.
  bool take_character(std::string& out, bool& negated) {
    if (take("\\s") || take("\\S")) {
      negated = rest_.data()[-1] == 'S';
      out += white_space_class();
      return true;
    }
    if (take("\\p{")) {
      const auto category = category_class(rest_.substr(0, 1));
      if (!category || rest_.substr(1, 1) != "}") return false;
      rest_.remove_prefix(2);
      out += *category;
      return true;
    }
    uint32_t character = 0;
    if (take("\\")) {
      if (rest_.empty()) return false;
      const char c = rest_.front();
      if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z' && c != 'r' && c != 'n' && c != 't')) return false;
      character = c == 'r' ? '\r' : c == 'n' ? '\n' : c == 't' ? '\t' : 0;
      if (character != 0) rest_.remove_prefix(1);
    }
    if (character == 0) character = take_code_point(rest_);
    out += fmt::format("\\x{{{:X}}}", character);
    return true;
  }

  std::string_view rest_;
  std::string out_;
  int depth_ = 0;
  bool may_repeat_ = false;
};

bool matches_nothing(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr),
      pcre2_code_free);
  if (!code) return true;
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  return pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(""), 0, 0, 0, data.get(), nullptr) != PCRE2_ERROR_NOMATCH;
}

}  // namespace

std::string_view white_space_class() { return kSpace; }
std::string_view letter_class() {
  static const std::string text = fmt::format("\\p{{L}}{}", kNewerLetters);
  return text;
}
std::string_view number_class() {
  static const std::string text = fmt::format("\\p{{N}}{}", kNewerNumbers);
  return text;
}

std::optional<std::string> split_pattern(std::string_view regex) {
  std::optional<std::string> pattern = Writer(regex).write();
  return pattern && !matches_nothing(*pattern) ? pattern : std::nullopt;
}

}  // namespace zerostep
