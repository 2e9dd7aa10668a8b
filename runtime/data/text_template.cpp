#include "runtime/data/text_template.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "models/text_file.h"

namespace zerostep {
namespace {

// A template in pieces: literals with their doubled braces made single, fields and brackets.
class TemplateReader {
 public:
  enum class Token : uint8_t { Field, Opens, Closes, End };

  TemplateReader(const std::string& text, const std::string& key) : text_(text), key_(key) {}

  // The literal up to the next token goes to `literal`, the name of a field to `name`.
  Token next(std::string& literal, std::string& name) {
    literal.clear();
    while (at_ < text_.size()) {
      const std::string_view rest = std::string_view(text_).substr(at_);
      if (rest.starts_with("{{") || rest.starts_with("}}")) {
        literal += rest[0];
        at_ += 2;
      } else if (rest.starts_with('{')) {
        name = field(rest);
        return Token::Field;
      } else if (rest.starts_with('}')) {
        fail("has a '}' that closes nothing; '}}' is the brace itself");
      } else if (rest.starts_with("[[")) {
        at_ += 2;
        if (std::exchange(is_inside_, true)) fail("opens an optional part, '[[', inside another");
        return Token::Opens;
      } else if (is_inside_ && rest.starts_with("]]")) {
        at_ += 2;
        is_inside_ = false;
        return Token::Closes;
      } else {
        literal += rest[0];
        ++at_;
      }
    }
    if (is_inside_) fail("opens an optional part with '[[' that no ']]' closes");
    return Token::End;
  }

  [[noreturn]] void fail(std::string_view what) const { fail_input("{}: the template '{}' {}", key_, text_, what); }

 private:
  std::string field(std::string_view rest) {
    const size_t end = rest.find_first_of("{}", 1);
    if (end == std::string_view::npos || rest[end] != '}') fail("opens a field with '{' that no '}' closes; '{{' is the brace itself");
    if (end == 1) fail("has a field without a name, '{}'; '{{' and '}}' are the braces themselves");
    at_ += end + 1;
    return std::string(rest.substr(1, end - 1));
  }

  const std::string& text_;
  const std::string& key_;
  size_t at_ = 0;
  bool is_inside_ = false;
};

}  // namespace

TextTemplate::TextTemplate(const DocumentSource& source)
    : key_(source.key), has_template_(!source.text.empty()), skips_missing_(source.skips_missing) {
  if (!source.ways.skips_missing.empty()) way_out_ = fmt::format(" ({} leaves such rows out)", source.ways.skips_missing);
  parts_.emplace_back();
  if (!has_template_) {
    add_field(parts_.back(), "", source.text_field, source.ways.text_field);
    for (const std::string& field : source.join_fields) add_field(parts_.back(), "\n", field, "data.join_fields");
    return;
  }
  TemplateReader reader(source.text, source.key);
  std::string literal, name;
  for (auto token = TemplateReader::Token::Opens; token != TemplateReader::Token::End;) {
    token = reader.next(literal, name);
    if (token == TemplateReader::Token::Field) {
      add_field(parts_.back(), literal, name, source.ways.text.empty() ? "the template of " + source.key : source.ways.text);
      continue;
    }
    std::vector<Piece>& pieces = parts_.back().pieces;
    if (token == TemplateReader::Token::Closes &&
        std::none_of(pieces.begin(), pieces.end(), [](const Piece& piece) { return piece.field.has_value(); }))
      reader.fail("has an optional part, '[[ ]]', without a field");
    if (!literal.empty()) pieces.push_back({literal, std::nullopt});
    if (token != TemplateReader::Token::End) parts_.push_back({token == TemplateReader::Token::Opens, {}});
  }
  if (fields_.empty()) reader.fail("names no field; '{text}' is the field text of a row");
}

void TextTemplate::add_field(Part& part, std::string before, const std::string& name, const std::string& named_by) {
  const auto found = std::find(fields_.begin(), fields_.end(), name);
  part.pieces.push_back({std::move(before), static_cast<size_t>(found - fields_.begin())});
  if (found != fields_.end()) return;
  fields_.push_back(name);
  named_by_.push_back(named_by);
}

std::vector<std::string> TextTemplate::required_fields() const {
  std::vector<std::string> out;
  for (const Part& part : parts_)
    for (const Piece& piece : part.pieces)
      if (piece.field && !part.is_optional) out.push_back(fields_[*piece.field]);
  return out;
}

std::string_view TextTemplate::value(RowBatch& row, size_t field, bool is_optional, Found& found, std::vector<bool>* met) const {
  using Kind = FieldValue::Kind;
  const FieldValue value = row.field(field);
  const std::string& name = fields_[field];
  found = value.text.empty() ? Found::Empty : Found::Text;
  if (met != nullptr && value.kind != Kind::Missing) (*met)[field] = true;
  switch (value.kind) {
    case Kind::Missing:
    case Kind::Null:
      found = Found::Nothing;
      if (is_optional || skips_missing_) return {};
      if (value.kind == Kind::Missing) fail_input("{}: {}{}", key_, row.lacks(name, named_by_[field]), way_out_);
      fail_input("{}: {}: field '{}' is null; a text is expected{}", key_, row.place(), name, way_out_);
    case Kind::Text:
      if (row.is_checked_utf8()) return value.text;
      if (const size_t stray = first_ill_formed_byte(value.text); stray != std::string_view::npos)
        fail_input("{}: {}: byte {} of field '{}', 0x{:02X}, is not UTF-8: write the file anew with texts in UTF-8", key_, row.place(),
                   stray + 1, name, static_cast<unsigned char>(value.text[stray]));
      return value.text;
    case Kind::Number:
    case Kind::Boolean:
    case Kind::Texts:
      if (has_template_) return value.text;
      break;
    case Kind::Other:
      break;
  }
  fail_input("{}: {}: field '{}' is {}; a {} is expected{}", key_, row.place(), name, row.type_of(field),
             has_template_ ? "string, number, boolean or list of strings" : "string", row.texts_there_are());
}

std::optional<TextTemplate::Obstacle> TextTemplate::obstacle(RowBatch& row) const {
  using Kind = FieldValue::Kind;
  for (const Part& part : parts_) {
    for (const Piece& piece : part.pieces) {
      if (!piece.field) continue;
      const FieldValue value = row.field(*piece.field);
      const bool is_missing = value.kind == Kind::Missing || value.kind == Kind::Null;
      const bool is_made_text = value.kind == Kind::Number || value.kind == Kind::Boolean || value.kind == Kind::Texts;
      if (is_missing && skips_missing_ && !part.is_optional) return std::nullopt;
      if (is_missing ? !part.is_optional : value.kind != Kind::Text && !(is_made_text && has_template_))
        return Obstacle{*piece.field, value.kind};
      if (part.is_optional && value.text.empty()) break;  // the part goes, whatever stands behind
    }
  }
  return std::nullopt;
}

std::optional<std::string_view> TextTemplate::text(RowBatch& row, std::string& buffer, std::vector<bool>* met) const {
  Found found = Found::Nothing;
  // Most texts are one field.
  if (parts_.size() == 1 && parts_[0].pieces.size() == 1 && parts_[0].pieces[0].before.empty()) {
    const std::string_view text = value(row, *parts_[0].pieces[0].field, false, found, met);
    return found == Found::Nothing ? std::nullopt : std::optional(text);
  }
  buffer.clear();
  for (const Part& part : parts_) {
    const size_t begin = buffer.size();
    for (const Piece& piece : part.pieces) {
      buffer += piece.before;
      if (!piece.field) continue;
      buffer += value(row, *piece.field, part.is_optional, found, met);
      if (found == Found::Text) continue;
      if (part.is_optional) {
        buffer.resize(begin);
        break;
      }
      if (found == Found::Nothing) return std::nullopt;
    }
  }
  return buffer;
}

}  // namespace zerostep
