#include "runtime/data/table_file.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "models/text_file.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/record_reader.h"
#include "runtime/data/row_reader.h"
#include "runtime/data/text_stream.h"
#include "runtime/data/text_template.h"

namespace zerostep {
namespace {

constexpr const char* kLabelField = "label";  // the default of data.label_field

// The whole text of a file.
std::string_view text_of_table(TextStream& stream, const std::string& path, const std::string& key) {
  std::string_view text;
  for (size_t size = 1 << 20; text = stream.look(size), !stream.is_all();) size *= 2;
  require_utf8(key + ": ", path, text);
  require_lines(key + ": ", path, text);
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  return text;
}

// A label as all kinds of tables have it: a whole number that is written with a fraction of zeros, as tables with missing values are, is
// that whole number.
std::string label_of(std::string text) {
  const size_t point = text.find('.');
  if (point == std::string::npos || point + 1 == text.size() || text.find_first_not_of('0', point + 1) != std::string::npos) return text;
  const std::string whole = text.substr(0, point);
  return is_whole_number(whole) ? whole : text;
}

// The records of a file as rows of the fields that make a text, and behind them the label.
class RecordRows final : public RowBatch {
 public:
  RecordRows(const std::string& path, std::string_view text, bool commas, const DocumentSource& source, const TextTemplate& texts,
             const std::string& label_field)
      : path_(path), text_(text), source_(source), texts_(texts), label_field_(label_field), reader_(path, text, commas) {}

  bool next() override {
    record_ = reader_.next();
    if (record_ && positions_.empty()) {
      place_columns();
      num_columns_ = record_->cells.size();
      if (has_header_) record_ = reader_.next();
    }
    if (record_ && record_->cells.size() != num_columns_) {
      fail_input("{}: {}: the row has {} columns; {} are expected, as in the first row", source_.key, place(), record_->cells.size(),
                 num_columns_);
    }
    return record_.has_value();
  }
  FieldValue field(size_t index) override { return {FieldValue::Kind::Text, record_->cells[positions_[index]]}; }
  std::string type_of(size_t) override { return "text"; }
  int64_t number() const override { return record_->line; }
  std::string place() const override { return fmt::format("{}:{}", path_, number()); }
  std::string lacks(const std::string& field, const std::string& named_by) const override {
    return fmt::format("{}: the first row, the header, has no column '{}', which {} names; its columns are: {}", place(), field, named_by,
                       fmt::join(names_, ", "));
  }
  bool is_checked_utf8() const override { return true; }  // the whole text is
  size_t num_bytes() const override { return text_.size(); }
  bool has_header() const { return has_header_; }
  size_t label_position() const { return positions_.back(); }

 private:
  // By the first record. Without a header columns are positions.
  void place_columns() {
    for (const std::string& cell : record_->cells) names_.push_back(trimmed(cell));
    std::vector<std::string> wanted = texts_.fields();
    wanted.push_back(label_field_);
    has_header_ =
        std::any_of(wanted.begin(), wanted.end(), [&](const std::string& column) { return !is_position(column) && is_there(column); });
    const DocumentSource defaults;
    const bool is_default =
        source_.text.empty() && source_.text_field == defaults.text_field && source_.join_fields.empty() && label_field_ == kLabelField;
    if (!has_header_ && is_default) {
      positions_ = {0, 1};
      if (names_.size() == 2) return;
      fail_input(
          "{}: {}: the first row has {} columns ({}) and no header with '{}' and '{}': name the columns with data.text_field and "
          "data.label_field, by position from 0 or by their names in a header",
          source_.key, place(), names_.size(), fmt::join(names_, ", "), source_.text_field, label_field_);
    }
    for (size_t i = 0; i < texts_.fields().size(); ++i) positions_.push_back(position(texts_.fields()[i], texts_.named_by(i)));
    positions_.push_back(position(label_field_, "data.label_field"));
  }

  bool is_there(const std::string& column) const { return std::find(names_.begin(), names_.end(), column) != names_.end(); }

  size_t position(const std::string& column, const std::string& named_by) const {
    if (is_position(column)) {
      const size_t at = std::stoul(column);
      if (at < names_.size()) return at;
      fail_input("{}: {}: there is no column {} ({}); the first row has {}, counted from 0", source_.key, place(), column, named_by,
                 names_.size());
    }
    if (!is_there(column)) fail_input("{}: {}", source_.key, lacks(column, named_by));
    if (std::count(names_.begin(), names_.end(), column) > 1)
      fail_input("{}: {}: the first row, the header, has several columns '{}', which {} names: give each a name of its own", source_.key,
                 place(), column, named_by);
    return static_cast<size_t>(std::find(names_.begin(), names_.end(), column) - names_.begin());
  }

  const std::string& path_;
  std::string_view text_;
  const DocumentSource& source_;
  const TextTemplate& texts_;
  const std::string& label_field_;
  RecordReader reader_;
  std::optional<Record> record_;
  std::vector<std::string> names_;
  std::vector<size_t> positions_;
  size_t num_columns_ = 0;
  bool has_header_ = false;
};

std::vector<TableRow> read_records(const std::string& path, std::string_view text, bool commas, const DocumentSource& source,
                                   const std::string& label_field) {
  const TextTemplate texts(source);
  RecordRows records(path, text, commas, source, texts, label_field);
  std::vector<TableRow> rows;
  std::string buffer;
  while (records.next()) {
    std::string label = label_of(trimmed(records.field(texts.fields().size()).text));
    if (label.empty()) fail_input("{}: {}: column {}, the label, is empty", source.key, records.place(), records.label_position());
    rows.push_back({std::string(texts.text(records, buffer).value_or("")), std::move(label), records.number()});
  }
  const bool unnamed_header = rows.size() > 1 && !records.has_header() && !is_whole_number(rows[0].label) &&
                              std::all_of(rows.begin() + 1, rows.end(), [](const TableRow& row) { return is_whole_number(row.label); });
  if (unnamed_header) rows.erase(rows.begin());
  if (source.max_documents > 0 && std::ssize(rows) > source.max_documents) rows.resize(static_cast<size_t>(source.max_documents));
  return rows;
}

// The rows of a file whose rows have fields.
std::vector<TableRow> read_fields(const std::string& path, const DocumentSource& source, const std::string& label_field,
                                  TableNotes& notes) {
  using Kind = FieldValue::Kind;
  const TextTemplate texts(source);
  std::vector<std::string> fields = texts.fields();
  const size_t label_index = fields.size();
  fields.push_back(label_field);
  notes.met.resize(label_index);
  const auto reader = open_rows(path, fields, source.key);
  std::vector<TableRow> rows;
  std::string buffer;
  while (const auto batch = reader->next()) {
    while (batch->next()) {
      if (source.max_documents > 0 && std::ssize(rows) == source.max_documents) return rows;
      const auto text = texts.text(*batch, buffer, &notes.met);
      if (!text) {
        ++notes.num_left_out;
        continue;
      }
      const FieldValue label = batch->field(label_index);
      if (label.kind == Kind::Missing) fail_input("{}: {}", source.key, batch->lacks(label_field, "data.label_field"));
      if (label.kind != Kind::Text && label.kind != Kind::Number && label.kind != Kind::Boolean)
        fail_input("{}: {}: field '{}', the label, is {}; a string, number or boolean is expected", source.key, batch->place(), label_field,
                   label.kind == Kind::Null ? "null" : label.text);
      const std::string name = label_of(label.kind == Kind::Text ? trimmed(label.text) : std::string(label.text));
      if (name.empty()) fail_input("{}: {}: field '{}', the label, is empty", source.key, batch->place(), label_field);
      if (!batch->is_checked_utf8() && first_ill_formed_byte(name) != std::string::npos)
        fail_input("{}: {}: field '{}', the label, is not UTF-8", source.key, batch->place(), label_field);
      rows.push_back({std::string(*text), name, batch->number()});
    }
  }
  return rows;
}

}  // namespace

bool is_whole_number(const std::string& text) {
  const std::string_view digits = std::string_view(text).substr(text.starts_with('-') ? 1 : 0);
  if (digits.empty() || digits.size() > 15 || (digits.size() > 1 && digits[0] == '0') || text == "-0") return false;
  return std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::vector<TableRow> read_table(const std::string& path, const DocumentSource& source, const std::string& label_field, TableNotes* notes) {
  TableNotes ignored;
  const TableKind kind = table_kind(path, source.key);
  if (kind != TableKind::Tabs && kind != TableKind::Commas)
    return read_fields(path, source, label_field, notes != nullptr ? *notes : ignored);
  TextStream stream(path, source.key);
  const std::string_view text = text_of_table(stream, path, source.key);
  return read_records(path, text, kind == TableKind::Commas, source, label_field);
}

}  // namespace zerostep
