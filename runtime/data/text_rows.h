#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace zerostep {

// Which column of a table, or field of its rows, is the text, and what names it, for messages. In a .tsv or .csv file digits are a column's
// position from 0, and every row counts; any other is a name in the first row, the header.
struct TextColumn {
  std::string name = "text", named_by = "data.text_field";
};

struct TextRow {
  std::string text;
  std::string place;      // for messages: "FILE:12" or "FILE: row 12"
  double share_read = 0;  // of the file, up to the row's end or somewhat further
};

// Calls visit(row) for each row of a table in order; labels are not looked at. A blank line of a .tsv or .csv file of one column is a row
// whose text is empty. In files of several columns and in .jsonl files blank lines are no rows: returns how many there are behind the
// header. Of the file no more is in memory than a part of some megabytes, or all of a compressed .tsv or .csv. The kinds of read_table
// (table_file.h) and its errors, which begin with `key`.
int64_t for_each_text(const std::string& path, const TextColumn& column, const std::string& key,
                      const std::function<void(TextRow row)>& visit);

}  // namespace zerostep
