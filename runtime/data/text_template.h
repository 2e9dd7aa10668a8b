#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/document_source.h"
#include "runtime/data/row_reader.h"

namespace zerostep {

// How a text is made of the fields of a row: DocumentSource's template, or its text_field with join_fields.
//
// In a template "{name}" is a field ("{about.place}" one inside another), "[[ ... ]]" a part that goes where one of its fields is missing,
// null or empty, and "{{" and "}}" are braces. Texts, numbers and booleans may stand there, and lists of texts, which are joined with
// spaces. text_field and join_fields name texts.
class TextTemplate {
 public:
  // InputError naming the source's key: a brace or bracket that is not closed or opened, a field without a name, a template or an optional
  // part without a field.
  explicit TextTemplate(const DocumentSource& source);

  // What a row reader is asked for, each once.
  const std::vector<std::string>& fields() const { return fields_; }
  // What names one of them, for messages: "data.text_field".
  const std::string& named_by(size_t field) const { return named_by_[field]; }
  // Those without which there is no text.
  std::vector<std::string> required_fields() const;
  // The text of the row: a view into the row or of `buffer`. Nothing: it lacks a field and is left out. InputError naming file, row and
  // field: one that is missing or null and may not be, one of another type, a text that is not UTF-8. `met`, of fields().size(): which of
  // the fields a row has had, whatever stood there.
  std::optional<std::string_view> text(RowBatch& row, std::string& buffer, std::vector<bool>* met = nullptr) const;

  // The first field that lets text() fail, and what stands there: nothing (Missing, Null), or another type than a text is made of. Nothing:
  // text() gives one or leaves the row out, or its text is not UTF-8.
  struct Obstacle {
    size_t field;
    FieldValue::Kind kind;
  };
  std::optional<Obstacle> obstacle(RowBatch& row) const;

 private:
  struct Piece {
    std::string before;           // literal
    std::optional<size_t> field;  // behind it; none: nothing is
  };
  struct Part {
    bool is_optional = false;
    std::vector<Piece> pieces;
  };
  enum class Found : uint8_t { Text, Empty, Nothing };
  void add_field(Part& part, std::string before, const std::string& name, const std::string& named_by);
  std::string_view value(RowBatch& row, size_t field, bool is_optional, Found& found, std::vector<bool>* met) const;

  std::string key_, way_out_;  // what a message about a row that lacks a field ends with
  bool has_template_, skips_missing_;
  std::vector<std::string> fields_, named_by_;
  std::vector<Part> parts_;
};

}  // namespace zerostep
