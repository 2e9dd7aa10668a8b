#include "runtime/data/record_reader.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace zerostep {

std::string trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ? "" : std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

bool is_position(const std::string& column) {
  return !column.empty() && column.size() < 7 && std::all_of(column.begin(), column.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<Record> RecordReader::next() {
  std::optional<Record> record = next_line();
  while (record && record->cells.empty()) record = next_line();
  return record;
}

std::optional<Record> RecordReader::next_line() {
  if (at_ >= text_.size()) return std::nullopt;
  Record record{{}, line_};
  if (text_[at_] == '\n' || text_.substr(at_).starts_with("\r\n")) {
    end_line();
    return record;
  }
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

void RecordReader::end_line() {
  at_ = std::min(text_.find('\n', at_), text_.size() - 1) + 1;
  ++line_;
}

// Leaves at_ at the separator or line end behind the cell.
std::string RecordReader::cell(size_t column) {
  if (commas_ && at_ < text_.size() && text_[at_] == '"') return quoted(column);
  const char ends[] = {separator(), '\n'};
  const size_t end = std::min(text_.find_first_of(std::string_view(ends, 2), at_), text_.size());
  std::string_view found = text_.substr(at_, end - at_);
  at_ = end;
  if ((end == text_.size() || text_[end] == '\n') && found.ends_with('\r')) found.remove_suffix(1);
  return std::string(found);
}

std::string RecordReader::quoted(size_t column) {
  const int64_t opened = line_;
  std::string found;
  for (++at_;; ++at_) {
    if (at_ >= text_.size())
      fail_input("{}:{}: the quote that opens column {} is never closed; a cell in quotes ends with one (RFC 4180)", path_, opened, column);
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
    fail_input("{}:{}: column {} goes on behind its closing quote with '{}'; a comma or the end of the line is expected (RFC 4180)", path_,
               line_, column, trimmed(rest.substr(0, std::min<size_t>(rest.find('\n'), 20))));
  }
  if (rest.starts_with('\r')) ++at_;
  return found;
}

}  // namespace zerostep
