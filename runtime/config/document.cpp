#include "runtime/config/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/text_file.h"
#include "models/tokenizer/utf8.h"

namespace zerostep::schema {
namespace {

using nlohmann::json;

constexpr size_t kMaxBytes = 1 << 20;
constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxKeys = 10000;
constexpr size_t kMaxKeyLength = 200;
constexpr size_t kShownLength = 60;

struct Position {
  size_t line = 1, column = 1;
};

Position position_of(std::string_view text, size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const size_t newline = before.rfind('\n');
  return {.line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1,
          .column = before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1};
}

// At most `length` bytes, whole characters.
std::string shortened(std::string text, size_t length) {
  if (text.size() <= length) return text;
  while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0u) == 0x80u) --length;
  return text.substr(0, length) + "...";
}

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_number(char c) { return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// The JSON value that a word of another language means; "": none.
std::string_view literal_of(std::string_view word) {
  std::string lower(word);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const auto& [name, literal] :
       {std::pair("true", "true"), std::pair("false", "false"), std::pair("null", "null"), std::pair("none", "null")})
    if (lower == name) return literal;
  return {};
}

// Blanks comments and trailing commas, so that offsets stay, and refuses what a JSON parser would say little about.
class Scanner {
 public:
  Scanner(std::string_view text, const Document& document) : text_(text), file_(document.file), kind_(document.kind), plain_(text) {}

  std::string plain() {
    check_encoding();
    while (at_ < text_.size()) next();
    if (!anything_) fail_input("{} holds no JSON: expected a {}, one object, {{ ... }}", file_, kind_);
    if (!open_.empty()) {
      fail(text_.size(), fmt::format("the file ends while the '{}' of line {} is still open: is it truncated?", text_[open_.back()],
                                     position_of(text_, open_.back()).line));
    }
    return std::move(plain_);
  }

 private:
  [[noreturn]] void fail(size_t offset, const std::string& what) const {
    const Position p = position_of(text_, offset);
    fail_input("{}, line {}, column {}: {}", file_, p.line, p.column, what);
  }

  void check_encoding() const {
    if (text_.starts_with("\xEF\xBB\xBF")) fail(0, "the file starts with a byte-order mark: save it as plain UTF-8");
    if (text_.starts_with("\xFF\xFE") || text_.starts_with("\xFE\xFF")) fail(0, "the file is UTF-16: save it as plain UTF-8");
    if (const size_t at = first_ill_formed_byte(text_); at != std::string_view::npos)
      fail(at, fmt::format("byte 0x{:02x} is not UTF-8: save the file as plain UTF-8", static_cast<unsigned char>(text_[at])));
  }

  void next() {
    const char c = text_[at_];
    if (is_space(c)) {
      ++at_;
    } else if (text_.substr(at_).starts_with("//")) {
      blank(std::min(text_.find('\n', at_), text_.size()));
    } else if (text_.substr(at_).starts_with("/*")) {
      const size_t end = text_.find("*/", at_ + 2);
      if (end == std::string_view::npos) fail(at_, "this comment has no end: expected */");
      blank(end + 2);
    } else {
      anything_ = true;
      token(c);
    }
  }

  void blank(size_t end) {
    for (; at_ < end; ++at_) {
      if (!is_space(text_[at_])) plain_[at_] = ' ';
    }
  }

  void token(char c) {
    const size_t begin = at_;
    if (c == '"') {
      string();
    } else if (is_letter(c)) {
      word(begin);
    } else if (is_number(c)) {
      while (at_ < text_.size() && (is_number(text_[at_]) || ((text_[at_] == 'e' || text_[at_] == 'E') && at_ > begin))) ++at_;
      if (at_ < text_.size() && is_letter(text_[at_])) word(begin);
    } else {
      if (static_cast<unsigned char>(c) >= 0x80)
        fail(at_, fmt::format("{} stands outside a string", text_.substr(at_, utf8_character_length(text_.substr(at_)))));
      bracket(c);
      ++at_;
    }
    // A comma before a closing bracket goes, when a value stands before it.
    if ((c == '}' || c == ']') && comma_) plain_[*comma_] = ' ';
    comma_ = c == ',' && has_value_ ? std::optional(begin) : std::nullopt;
    has_value_ = c != ',' && c != '{' && c != '[' && c != ':';
  }

  void string() {
    const size_t begin = at_++;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] == '\n') fail(begin, "this string has no end on its line: expected a closing quotation mark");
      at_ += text_[at_] == '\\' ? 2 : 1;
    }
    if (at_ >= text_.size()) fail(begin, "the file ends inside this string: is it truncated?");
    ++at_;
  }

  void word(size_t begin) {
    while (at_ < text_.size() && (is_letter(text_[at_]) || is_number(text_[at_]))) ++at_;
    const std::string_view found = text_.substr(begin, at_ - begin);
    if (found == "true" || found == "false" || found == "null") return;
    if (const std::string_view literal = literal_of(found); !literal.empty())
      fail(begin, fmt::format("{} is no JSON value: JSON writes {}", found, literal));
    const std::string bare = found.find("NaN") != std::string_view::npos || found.find("Inf") != std::string_view::npos
                                 ? "is no number of JSON: expected a finite number"
                                 : "is no JSON value: strings and keys need quotation marks";
    fail(begin, fmt::format("{} {}", found.substr(0, kShownLength), bare));
  }

  void bracket(char c) {
    if (c == '{' || c == '[') {
      open_.push_back(at_);
      if (open_.size() > kMaxDepth) fail(at_, fmt::format("more than {} levels of nesting", kMaxDepth));
    } else if (c == '}' || c == ']') {
      if (open_.empty()) fail(at_, fmt::format("this '{}' closes nothing", c));
      if ((c == '}') != (text_[open_.back()] == '{')) {
        fail(at_,
             fmt::format("this '{}' does not close the '{}' of line {}", c, text_[open_.back()], position_of(text_, open_.back()).line));
      }
      open_.pop_back();
    }
  }

  std::string_view text_;
  const std::string &file_, &kind_;
  std::string plain_;
  size_t at_ = 0;
  std::vector<size_t> open_;     // offsets of the open brackets
  std::optional<size_t> comma_;  // the last token, when it is a comma behind a value
  bool has_value_ = false, anything_ = false;
};

// Builds the tree; a duplicate key is an error.
class Builder : public nlohmann::json_sax<json> {
 public:
  // `in`: where the parser reads the text.
  Builder(Document& document, std::string_view text, std::istream& in) : document_(document), text_(text), in_(in) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool b) override { return value(b); }
  bool number_integer(number_integer_t n) override { return value(n); }
  bool number_unsigned(number_unsigned_t n) override { return value(n); }
  bool number_float(number_float_t n, const string_t&) override { return value(n); }
  bool string(string_t& s) override {
    if (s.find('\0') != std::string::npos) fail_input("{}, line {}: a string holds a NUL character", document_.file, line());
    return value(std::move(s));
  }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (++num_keys_ > kMaxKeys)
      fail_input("{}, line {}: more than {} keys: that is no {}", document_.file, line(), kMaxKeys, document_.kind);
    if (name.size() > kMaxKeyLength)
      fail_input("{}, line {}: a key of {} bytes: that is no {}", document_.file, line(), name.size(), document_.kind);
    for (char c : name) {
      if (static_cast<unsigned char>(c) < 0x20) fail_input("{}, line {}: a key holds a control character", document_.file, line());
    }
    key_ = name;
    json& object = *stack_.back().node;
    const std::string path = child_path();
    if (object.contains(name)) {
      fail_input("{}, line {}: the key {} stands twice (first in {}); one of the two has to go", document_.file, line(), path,
                 document_.where[path]);
    }
    document_.where[path] = fmt::format("line {}", line());
    return true;
  }
  bool parse_error(std::size_t offset, const std::string& token, const nlohmann::detail::exception& error) override {
    const Position p = position_of(text_, offset == 0 ? 0 : offset - 1);
    if (error.id == 406) {  // a number beyond the range of double
      fail_input("{}, line {}, column {}: the number {} is beyond the range of double precision", document_.file, p.line, p.column,
                 token.substr(0, kShownLength));
    }
    std::string what = error.what();
    for (std::string_view lead : {"syntax error ", "parse error "}) {
      const size_t at = what.rfind(lead);
      if (at != std::string::npos) what = what.substr(at);
    }
    fail_input("{}, line {}, column {}: not JSON: {}", document_.file, p.line, p.column, shortened(printable(what), 4 * kShownLength));
  }

 private:
  struct Level {
    json* node;
    std::string path;
  };
  size_t line() {
    const auto offset = static_cast<size_t>(in_.rdbuf()->pubseekoff(0, std::ios::cur, std::ios::in));
    for (; counted_ < offset; ++counted_) line_ += text_[counted_] == '\n' ? 1 : 0;
    return line_;
  }
  std::string child_path() const {
    if (stack_.empty()) return "";
    const Level& level = stack_.back();
    if (level.node->is_array()) return fmt::format("{}[{}]", level.path, level.node->size());
    return level.path.empty() ? key_ : level.path + "." + key_;
  }
  json* add(json node) {
    if (stack_.empty()) return &(document_.root = std::move(node));
    json& parent = *stack_.back().node;
    if (parent.is_array()) {
      parent.push_back(std::move(node));
      return &parent.back();
    }
    return &(parent[key_] = std::move(node));
  }
  bool value(json v) {
    add(std::move(v));
    return true;
  }
  bool open(json container) {
    std::string path = child_path();
    json* node = add(std::move(container));
    stack_.push_back({.node = node, .path = std::move(path)});
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }

  Document& document_;
  std::string_view text_;
  std::istream& in_;
  size_t counted_ = 0, line_ = 1, num_keys_ = 0;
  std::vector<Level> stack_;
  std::string key_;
};

// Of a path, or of the nearest block or list above it that stands somewhere; "": none does.
std::string_view written_at(const Document& document, std::string_view path) {
  for (;; path = path.substr(0, path.find_last_of(".["))) {
    const auto found = document.where.find(path);
    if (found != document.where.end()) return found->second;
    if (path.find_last_of(".[") == std::string_view::npos) return {};
  }
}

bool is_of_command_line(std::string_view place) { return place.starts_with("--"); }

}  // namespace

std::string Document::setting(std::string_view path) const {
  const std::string_view at = written_at(*this, path);
  return is_of_command_line(at) ? std::string(at) : "";
}

std::string Document::place(std::string_view path) const {
  const std::string_view at = written_at(*this, path);
  if (at.empty()) return file;
  return is_of_command_line(at) ? std::string(at) : fmt::format("{}, {}", file, at);
}

std::string Document::spelling(std::string_view path) const {
  const auto found = written_as.find(path);
  return found == written_as.end() ? std::string(path) : found->second;
}

Document parse_document(std::string_view text, const std::string& file, const std::string& kind) {
  Document document;
  document.file = file;
  document.kind = kind;
  const std::string plain = Scanner(text, document).plain();
  std::istringstream in(plain);
  Builder builder(document, plain, in);
  if (!json::sax_parse(in, &builder)) fail_input("{}: not JSON", file);
  return document;
}

Document read_document(const std::string& file, const std::string& kind) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(file, error);
  if (!fs::exists(status)) fail_input("{} does not exist: expected a {} (JSON)", file, kind);
  if (fs::is_directory(status)) fail_input("{} is a directory: expected a {} (JSON)", file, kind);
  std::ifstream in(file, std::ios::binary);
  if (!in) fail_input("{} cannot be read: {}", file, std::strerror(errno));
  std::string text(kMaxBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) fail_input("{} cannot be read: {}", file, std::strerror(errno));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxBytes) fail_input("{} is larger than {} bytes: that is no {}", file, kMaxBytes, kind);
  if (text.empty()) fail_input("{} is empty: expected a {}, one JSON object, {{ ... }}", file, kind);
  Document document = parse_document(text, file, kind);
  if (!document.root.is_object()) fail_input("{} holds {}: expected a {}, one JSON object, {{ ... }}", file, shown(document.root), kind);
  return document;
}

bool is_utf8(std::string_view text) { return first_ill_formed_byte(text) == std::string_view::npos; }

std::string printable(std::string_view text) {
  std::string kept;
  while (!text.empty()) {
    const size_t length = utf8_character_length(text);
    if (length > 1 || (length == 1 && static_cast<unsigned char>(text[0]) >= 0x20)) kept += text.substr(0, length);
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return kept;
}

std::string shown(const json& value) { return shortened(value.dump(-1, ' ', false, json::error_handler_t::replace), kShownLength); }

}  // namespace zerostep::schema
