#include "runtime/data/text_rows.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "models/text_file.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/record_reader.h"
#include "runtime/data/row_reader.h"
#include "runtime/data/text_stream.h"

namespace zerostep {
namespace {

// One pass over a file.
class TextPass {
 public:
  TextPass(const std::string& path, const TextColumn& column, const std::string& key, const std::function<void(TextRow)>& visit)
      : path_(path), column_(column), key_(key), visit_(visit) {}

  int64_t records(bool commas) const {
    TextStream stream(path_, key_);
    std::string_view text;
    for (size_t size = 1 << 20; text = stream.look(size), !stream.is_all();) size *= 2;
    require_utf8(key_ + ": ", path_, text);
    require_lines(key_ + ": ", path_, text);
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    RecordReader reader(path_, text, commas);
    const auto visit = [&](std::string cell, int64_t line) {
      visit_({std::move(cell), place(line), share(reader.position(), text.size())});
    };
    size_t column = 0, num_columns = 0;
    // The blank lines so far that are no rows; before the first row with cells nobody knows yet whether they are.
    std::vector<int64_t> blank_lines;
    while (std::optional<Record> record = reader.next_line()) {
      const bool is_blank = record->cells.empty();
      if (is_blank && num_columns != 1) {
        blank_lines.push_back(record->line);
        continue;
      }
      if (num_columns == 0) {
        num_columns = record->cells.size();
        column = column_in(*record, place(record->line));
        if (!is_position(column_.name)) {
          blank_lines.clear();
          continue;
        }
        if (num_columns == 1)
          for (const int64_t line : std::exchange(blank_lines, {})) visit("", line);
      }
      if (!is_blank && record->cells.size() != num_columns)
        fail_input("{}: {}: the row has {} columns; {} are expected, as in the first row", key_, place(record->line), record->cells.size(),
                   num_columns);
      visit(is_blank ? "" : std::move(record->cells[column]), record->line);
    }
    return std::ssize(blank_lines);
  }

  int64_t fields() const {
    const auto reader = open_rows(path_, {column_.name}, key_);
    const auto bytes = static_cast<size_t>(std::filesystem::file_size(path_));
    int64_t blank_lines = 0;
    while (const auto batch = reader->next()) {
      while (batch->next()) visit_({text_of(*batch), batch->place(), share(static_cast<size_t>(reader->bytes_read()), bytes)});
      blank_lines += batch->num_blank_lines();
    }
    return blank_lines;
  }

 private:
  std::string place(int64_t line) const { return fmt::format("{}:{}", path_, line); }
  static double share(size_t position, size_t all) {
    return std::min(1.0, static_cast<double>(position) / static_cast<double>(std::max<size_t>(all, 1)));
  }

  size_t column_in(const Record& first, const std::string& place) const {
    std::vector<std::string> names;
    for (const std::string& cell : first.cells) names.push_back(trimmed(cell));
    if (is_position(column_.name)) {
      const size_t at = std::stoul(column_.name);
      if (at < names.size()) return at;
      fail_input("{}: {}: there is no column {} ({}); the first row has {}, counted from 0", key_, place, column_.name, column_.named_by,
                 names.size());
    }
    const auto found = std::find(names.begin(), names.end(), column_.name);
    if (found == names.end())
      fail_input(
          "{}: {}: the first row, the header, has no column '{}' ({} names it, or its position from 0 where there is no header); its "
          "columns are: {}",
          key_, place, column_.name, column_.named_by, fmt::join(names, ", "));
    if (std::count(found, names.end(), column_.name) > 1)
      fail_input("{}: {}: the first row, the header, has several columns '{}', which {} names: give each a name of its own", key_, place,
                 column_.name, column_.named_by);
    return static_cast<size_t>(found - names.begin());
  }

  std::string text_of(RowBatch& row) const {
    using Kind = FieldValue::Kind;
    const FieldValue value = row.field(0);
    if (value.kind == Kind::Missing) fail_input("{}: {}", key_, row.lacks(column_.name, column_.named_by));
    if (value.kind != Kind::Text)
      fail_input("{}: {}: field '{}' is {}; a string is expected{}", key_, row.place(), column_.name,
                 value.kind == Kind::Null ? "null" : row.type_of(0), row.texts_there_are());
    if (!row.is_checked_utf8() && first_ill_formed_byte(value.text) != std::string::npos)
      fail_input("{}: {}: field '{}' is not UTF-8: write the file anew with texts in UTF-8", key_, row.place(), column_.name);
    return std::string(value.text);
  }

  const std::string& path_;
  const TextColumn& column_;
  const std::string& key_;
  const std::function<void(TextRow)>& visit_;
};

}  // namespace

int64_t for_each_text(const std::string& path, const TextColumn& column, const std::string& key,
                      const std::function<void(TextRow row)>& visit) {
  const TableKind kind = table_kind(path, key);
  const TextPass pass(path, column, key, visit);
  if (kind == TableKind::Tabs || kind == TableKind::Commas) return pass.records(kind == TableKind::Commas);
  return pass.fields();
}

}  // namespace zerostep
