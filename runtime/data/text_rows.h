#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/data/document_source.h"

namespace zerostep {

struct TextRow {
  std::string text;
  std::string place;      // for messages: "FILE:12" or "FILE: row 12"
  double share_read = 0;  // of the file, up to the row's end or somewhat further
};

// Calls visit(row) for each row of a table in order, with the text that the source makes of it; labels are not looked at. Columns of a .tsv
// or .csv file that are named by digits alone are positions from 0, and every row counts then; otherwise the first row is the header. A
// blank line of such a file of one column is a row whose cell is empty. In files of several columns and in .jsonl files blank lines are no
// rows: returns how many there are behind the header. Of the file no more is in memory than a part of some megabytes, or all of a
// compressed .tsv or .csv. The kinds of read_table (table_file.h) and its errors. Where the source skips rows that lack a field they are
// not counted; its max_documents is not looked at. `met`: gains which of the fields of the source's TextTemplate some row has had.
int64_t for_each_text(const std::string& path, const DocumentSource& source, const std::function<void(TextRow row)>& visit,
                      std::vector<bool>* met = nullptr);

}  // namespace zerostep
