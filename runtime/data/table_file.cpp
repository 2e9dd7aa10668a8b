#include "runtime/data/table_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "models/text_file.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/lacks_field.h"

namespace zerostep {
namespace {

using nlohmann::json;

constexpr const char* kLabelField = "label";  // the default of data.label_field

std::string_view text_of_table(const MappedFile& file, const std::string& key) {
  std::string_view text = file.text();
  require_utf8(key + ": ", file.path(), text);
  require_lines(key + ": ", file.path(), text);
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

std::string trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? "" : std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

bool is_position(const std::string& column) {
  return !column.empty() && column.size() < 7 && std::all_of(column.begin(), column.end(), [](char c) { return c >= '0' && c <= '9'; });
}

struct Record {
  std::vector<std::string> cells;
  int64_t line = 0;
};

// Cuts a .tsv or .csv file into records.
class RecordReader {
 public:
  RecordReader(const std::string& path, std::string_view text, bool commas) : path_(path), text_(text), commas_(commas) {}

  std::optional<Record> next() {
    while (at_ < text_.size() && (text_[at_] == '\n' || text_.substr(at_).starts_with("\r\n"))) end_line();
    if (at_ >= text_.size()) return std::nullopt;
    Record record{{}, line_};
    for (;;) {
      record.cells.push_back(cell(record.cells.size()));
      if (at_ >= text_.size()) break;
      if (text_[at_] == separator()) {
        ++at_;
        continue;
      }
      end_line();
      break;
    }
    return record;
  }

 private:
  char separator() const { return commas_ ? ',' : '\t'; }

  void end_line() {
    at_ = std::min(text_.find('\n', at_), text_.size() - 1) + 1;
    ++line_;
  }

  // Leaves at_ at the separator or line end behind the cell.
  std::string cell(size_t column) {
    if (commas_ && at_ < text_.size() && text_[at_] == '"') return quoted(column);
    const char ends[] = {separator(), '\n'};
    const size_t end = std::min(text_.find_first_of(std::string_view(ends, 2), at_), text_.size());
    std::string_view found = text_.substr(at_, end - at_);
    at_ = end;
    if ((end == text_.size() || text_[end] == '\n') && found.ends_with('\r')) found.remove_suffix(1);
    return std::string(found);
  }

  std::string quoted(size_t column) {
    const int64_t opened = line_;
    std::string found;
    for (++at_;; ++at_) {
      if (at_ >= text_.size())
        fail_input("{}:{}: the quote that opens column {} is never closed; a cell in quotes ends with one (RFC 4180)", path_, opened,
                   column);
      const char c = text_[at_];
      if (c == '"' && at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        ++at_;
      } else if (c == '"') {
        break;
      }
      line_ += c == '\n';
      found += c;
    }
    ++at_;
    const std::string_view rest = text_.substr(at_);
    if (!rest.empty() && rest[0] != ',' && rest[0] != '\n' && rest != "\r" && !rest.starts_with("\r\n")) {
      fail_input("{}:{}: column {} goes on behind its closing quote with '{}'; a comma or the end of the line is expected (RFC 4180)",
                 path_, line_, column, trimmed(rest.substr(0, std::min<size_t>(rest.find('\n'), 20))));
    }
    if (rest.starts_with('\r')) ++at_;
    return found;
  }

  const std::string& path_;
  std::string_view text_;
  bool commas_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

// Where the wanted columns lie.
struct Positions {
  size_t text = 0, label = 1;
  std::vector<size_t> join;
  bool header = false;
};

Positions positions_of(const std::string& path, const Record& first, const DocumentSource& source, const std::string& label_field) {
  std::vector<std::string> wanted = {source.text_field, label_field};
  wanted.insert(wanted.end(), source.join_fields.begin(), source.join_fields.end());
  std::vector<std::string> names;
  for (const std::string& cell : first.cells) names.push_back(trimmed(cell));
  const auto named = [&](const std::string& column) {
    return std::find(names.begin(), names.end(), column) != names.end() && !is_position(column);
  };
  Positions positions;
  positions.header = std::any_of(wanted.begin(), wanted.end(), named);
  const bool is_default = source.text_field == DocumentSource().text_field && label_field == kLabelField && source.join_fields.empty();
  if (!positions.header && is_default) {
    if (names.size() == 2) return positions;
    fail_input(
        "{}: {}:{}: the first row has {} columns ({}) and no header with '{}' and '{}': name the columns with data.text_field and "
        "data.label_field, by position from 0 or by their names in a header",
        source.key, path, first.line, names.size(), fmt::join(names, ", "), source.text_field, label_field);
  }
  const auto position = [&](const std::string& column, const char* which) {
    if (is_position(column)) {
      const size_t at = std::stoul(column);
      if (at < names.size()) return at;
      fail_input("{}: {}:{}: there is no column {} ({}); the first row has {}, counted from 0", source.key, path, first.line, column, which,
                 names.size());
    }
    const auto found = std::find(names.begin(), names.end(), column);
    if (found == names.end()) {
      fail_input("{}: {}:{}: the first row, the header, has no column '{}' ({} names it); its columns are: {}", source.key, path,
                 first.line, column, which, fmt::join(names, ", "));
    }
    return static_cast<size_t>(found - names.begin());
  };
  positions.text = position(source.text_field, "data.text_field");
  positions.label = position(label_field, "data.label_field");
  for (const std::string& column : source.join_fields) positions.join.push_back(position(column, "data.join_fields"));
  return positions;
}

std::vector<TableRow> read_records(const std::string& path, std::string_view text, bool commas, const DocumentSource& source,
                                   const std::string& label_field) {
  RecordReader reader(path, text, commas);
  std::vector<TableRow> rows;
  std::optional<Positions> positions;
  size_t num_columns = 0;
  while (std::optional<Record> record = reader.next()) {
    if (!positions) {
      positions = positions_of(path, *record, source, label_field);
      num_columns = record->cells.size();
      if (positions->header) continue;
    }
    if (record->cells.size() != num_columns) {
      fail_input("{}: {}:{}: the row has {} columns; {} are expected, as in the first row", source.key, path, record->line,
                 record->cells.size(), num_columns);
    }
    TableRow row{std::move(record->cells[positions->text]), label_of(trimmed(record->cells[positions->label])), record->line};
    for (size_t column : positions->join) row.text.append("\n").append(record->cells[column]);
    if (row.label.empty()) fail_input("{}: {}:{}: column {}, the label, is empty", source.key, path, record->line, positions->label);
    rows.push_back(std::move(row));
  }
  const bool unnamed_header = rows.size() > 1 && !positions->header && !is_whole_number(rows[0].label) &&
                              std::all_of(rows.begin() + 1, rows.end(), [](const TableRow& row) { return is_whole_number(row.label); });
  if (unnamed_header) rows.erase(rows.begin());
  return rows;
}

// One .jsonl line.
class ObjectReader {
 public:
  ObjectReader(const std::string& path, const DocumentSource& source, const std::string& label_field)
      : path_(path), source_(source), label_field_(label_field) {}

  // Nothing: the row lacks a text and is left out.
  std::optional<TableRow> read(std::string_view line, int64_t number) const {
    json object;
    try {
      object = json::parse(line.begin(), line.end());
    } catch (const json::exception& e) {
      const std::string_view what = e.what();
      fail_input("{}: {}:{} is not valid JSON: {}; one object a line is expected", source_.key, path_, number,
                 what.substr(what.find("] ") + 2, 300));
    }
    if (!object.is_object()) fail_input("{}: {}:{} is {}; one object a line is expected", source_.key, path_, number, object.type_name());
    if (source_.skips_missing && lacks_field(object, source_.text_field, source_.join_fields)) return std::nullopt;
    TableRow row{text(object, source_.text_field, "data.text_field", number), label(object, number), number};
    for (const std::string& name : source_.join_fields) row.text.append("\n").append(text(object, name, "data.join_fields", number));
    return row;
  }

 private:
  const json& field(const json& object, const std::string& name, const char* which, int64_t number) const {
    const auto found = object.find(name);
    if (found != object.end()) return *found;
    std::vector<std::string> names;
    for (const auto& [other, value] : object.items()) names.push_back(other);
    fail_input("{}: {}:{} has no field '{}' ({} names it); its fields are: {}", source_.key, path_, number, name, which,
               fmt::join(names, ", "));
  }

  std::string text(const json& object, const std::string& name, const char* which, int64_t number) const {
    const json& value = field(object, name, which, number);
    if (!value.is_string())
      fail_input("{}: {}:{}: field '{}' is {}; a string is expected", source_.key, path_, number, name, value.type_name());
    return value.get<std::string>();
  }

  std::string label(const json& object, int64_t number) const {
    const json& value = field(object, label_field_, "data.label_field", number);
    const std::string name = label_of(value.is_string() ? trimmed(value.get_ref<const std::string&>()) : value.dump());
    if (!value.is_string() && !value.is_number() && !value.is_boolean()) {
      fail_input("{}: {}:{}: field '{}', the label, is {}; a string, number or boolean is expected", source_.key, path_, number,
                 label_field_, value.dump());
    }
    if (name.empty()) fail_input("{}: {}:{}: field '{}', the label, is empty", source_.key, path_, number, label_field_);
    return name;
  }

  const std::string& path_;
  const DocumentSource& source_;
  const std::string& label_field_;
};

std::vector<TableRow> read_objects(const std::string& path, std::string_view text, const DocumentSource& source,
                                   const std::string& label_field, int64_t* num_left_out) {
  const ObjectReader reader(path, source, label_field);
  std::vector<TableRow> rows;
  for_each_line(text, [&](std::string_view line, int64_t number) {
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    std::optional<TableRow> row = reader.read(line, number);
    if (row)
      rows.push_back(std::move(*row));
    else if (num_left_out != nullptr)
      ++*num_left_out;
  });
  return rows;
}

}  // namespace

bool is_whole_number(const std::string& text) {
  const std::string_view digits = std::string_view(text).substr(text.starts_with('-') ? 1 : 0);
  if (digits.empty() || digits.size() > 15 || (digits.size() > 1 && digits[0] == '0') || text == "-0") return false;
  return std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::vector<TableRow> read_table(const std::string& path, const DocumentSource& source, const std::string& label_field,
                                 int64_t* num_left_out) {
  const MappedFile file(path);
  const TableKind kind = table_kind(path, source.key);
  const std::string_view text = text_of_table(file, source.key);
  if (kind == TableKind::JsonLines) return read_objects(path, text, source, label_field, num_left_out);
  return read_records(path, text, kind == TableKind::Commas, source, label_field);
}

}  // namespace zerostep
