#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// A row of a table in cells, and the line where it begins, from 1.
struct Record {
  std::vector<std::string> cells;
  int64_t line = 0;
};

// Cuts the text of a .tsv file (a row a line, no quotes) or of a .csv file (RFC 4180) into records. The path, which is for messages, and
// the text outlive it.
class RecordReader {
 public:
  RecordReader(const std::string& path, std::string_view text, bool commas) : path_(path), text_(text), commas_(commas) {}
  // Nothing behind the last; blank lines are no records. InputError with file and line for quotes that are not closed, or that go on.
  std::optional<Record> next();
  // The same, and a blank line is a record without cells.
  std::optional<Record> next_line();
  // Bytes of the text before the next record.
  size_t position() const { return at_; }

 private:
  char separator() const { return commas_ ? ',' : '\t'; }
  void end_line();
  std::string cell(size_t column);
  std::string quoted(size_t column);

  const std::string& path_;
  std::string_view text_;
  bool commas_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

// A cell without the white space around it.
std::string trimmed(std::string_view text);
// Whether a column is named by its position from 0.
bool is_position(const std::string& column);

}  // namespace zerostep
