#include "runtime/data/text_rows.h"

#include <algorithm>
#include <deque>
#include <filesystem>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "models/text_file.h"
#include "runtime/data/corpus_files.h"
#include "runtime/data/record_reader.h"
#include "runtime/data/row_reader.h"
#include "runtime/data/text_stream.h"
#include "runtime/data/text_template.h"

namespace zerostep {
namespace {

double share_of(size_t position, size_t all) {
  return std::min(1.0, static_cast<double>(position) / static_cast<double>(std::max<size_t>(all, 1)));
}

// The records of a table as rows of the fields that make a text.
class TextRecords final : public RowBatch {
 public:
  TextRecords(const std::string& path, std::string_view text, bool commas, const std::string& key, const TextTemplate& texts)
      : path_(path), text_(text), key_(key), texts_(texts), reader_(path, text, commas) {}

  bool next() override {
    for (;;) {
      if (num_columns_ == 1 && !unplaced_.empty()) {
        cells_.clear();
        line_ = unplaced_.front();
        unplaced_.pop_front();
        return true;
      }
      std::optional<Record> record = first_ ? std::exchange(first_, std::nullopt) : reader_.next_line();
      if (!record) return false;
      cells_ = std::move(record->cells);
      line_ = record->line;
      if (cells_.empty() && num_columns_ != 1) {
        unplaced_.push_back(line_);
        continue;
      }
      if (num_columns_ == 0) {
        num_columns_ = cells_.size();
        if (place_columns()) {
          unplaced_.clear();
          continue;
        }
        if (num_columns_ == 1) {
          first_ = Record{std::move(cells_), line_};  // behind the blank lines before it
          continue;
        }
      }
      if (!cells_.empty() && cells_.size() != num_columns_)
        fail_input("{}: {}: the row has {} columns; {} are expected, as in the first row", key_, place(), cells_.size(), num_columns_);
      return true;
    }
  }
  FieldValue field(size_t index) override {
    return {FieldValue::Kind::Text, cells_.empty() ? std::string_view() : cells_[positions_[index]]};
  }
  std::string type_of(size_t) override { return "text"; }
  int64_t number() const override { return line_; }
  std::string place() const override { return fmt::format("{}:{}", path_, line_); }
  std::string lacks(const std::string& field, const std::string& named_by) const override {
    return fmt::format(
        "{}: the first row, the header, has no column '{}' ({} names it, or its position from 0 where there is no header); its columns "
        "are: {}",
        place(), field, named_by, fmt::join(names_, ", "));
  }
  bool is_checked_utf8() const override { return true; }  // the whole text is
  size_t num_bytes() const override { return text_.size(); }
  int64_t num_blank_lines() const override { return std::ssize(unplaced_); }
  double share_read() const { return share_of(reader_.position(), text_.size()); }

 private:
  // By the first row with cells; gives whether it is a header.
  bool place_columns() {
    for (const std::string& cell : cells_) names_.push_back(trimmed(cell));
    const std::vector<std::string>& fields = texts_.fields();
    for (size_t i = 0; i < fields.size(); ++i) positions_.push_back(position(fields[i], texts_.named_by(i)));
    return !std::all_of(fields.begin(), fields.end(), is_position);
  }

  size_t position(const std::string& column, const std::string& named_by) const {
    if (is_position(column)) {
      const size_t at = std::stoul(column);
      if (at < names_.size()) return at;
      fail_input("{}: {}: there is no column {} ({}); the first row has {}, counted from 0", key_, place(), column, named_by,
                 names_.size());
    }
    const auto found = std::find(names_.begin(), names_.end(), column);
    if (found == names_.end()) fail_input("{}: {}", key_, lacks(column, named_by));
    if (std::count(found, names_.end(), column) > 1)
      fail_input("{}: {}: the first row, the header, has several columns '{}', which {} names: give each a name of its own", key_, place(),
                 column, named_by);
    return static_cast<size_t>(found - names_.begin());
  }

  const std::string& path_;
  std::string_view text_;
  const std::string& key_;
  const TextTemplate& texts_;
  RecordReader reader_;
  std::optional<Record> first_;
  std::vector<std::string> cells_, names_;
  int64_t line_ = 0;
  std::vector<size_t> positions_;
  size_t num_columns_ = 0;  // 0: no row with cells has come
  // Blank lines that are no rows; before the first row with cells nobody knows yet whether they are.
  std::deque<int64_t> unplaced_;
};

}  // namespace

int64_t for_each_text(const std::string& path, const DocumentSource& source, const std::function<void(TextRow row)>& visit,
                      std::vector<bool>* met) {
  const TextTemplate texts(source);
  if (met != nullptr) met->resize(texts.fields().size());
  std::string buffer;
  const auto visit_row = [&](RowBatch& row, double share) {
    if (const auto text = texts.text(row, buffer, met)) visit({std::string(*text), row.place(), share});
  };
  const TableKind kind = table_kind(path, source.key);
  if (kind == TableKind::Tabs || kind == TableKind::Commas) {
    TextStream stream(path, source.key);
    std::string_view text;
    for (size_t size = 1 << 20; text = stream.look(size), !stream.is_all();) size *= 2;
    require_utf8(source.key + ": ", path, text);
    require_lines(source.key + ": ", path, text);
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
    TextRecords rows(path, text, kind == TableKind::Commas, source.key, texts);
    while (rows.next()) visit_row(rows, rows.share_read());
    return rows.num_blank_lines();
  }
  const auto reader = open_rows(path, texts.fields(), source.key);
  const auto bytes = static_cast<size_t>(std::filesystem::file_size(path));
  int64_t blank_lines = 0;
  while (const auto batch = reader->next()) {
    while (batch->next()) visit_row(*batch, share_of(static_cast<size_t>(reader->bytes_read()), bytes));
    blank_lines += batch->num_blank_lines();
  }
  return blank_lines;
}

}  // namespace zerostep
