#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/document_source.h"

namespace zerostep {

struct TableRow {
  std::string text, label;
  int64_t line = 0;  // where the row begins, from 1
};

// The rows of a file in order; blank lines are none. A .tsv file has a row a line and no quotes; a .csv file is read by RFC 4180 (cells in
// quotes may hold separators, line ends and doubled quotes); a .jsonl file has an object a line, its label a text, number or boolean.
// A label 1.0 is 1 in all of them. The source says which columns of a .tsv or .csv file, or fields of a .jsonl file, make the text: one of
// digits is a position from 0, any other a name in the header.
//
// The first row of a .tsv or .csv file is a header when one of its cells is the name of a wanted column; then every wanted column must be
// there. Otherwise columns are positions: those given, or 0 for the text and 1 for the label of a file of two columns when neither was
// named. The first of such rows is still left out as a header when its label is no whole number and that of every other row is.
//
// InputError with the source's key, file, line and column: text that is not UTF-8, lines that end with CR alone, what is missing,
// rows of unequal length, a quote that is not closed, an empty label. Adds to `notes` where they are given.
struct TableNotes {
  int64_t num_left_out = 0;  // rows that lack a field of the text
  std::vector<bool> met;     // which fields of the text's template some row has; empty: the rows have cells
};
std::vector<TableRow> read_table(const std::string& path, const DocumentSource& source, const std::string& label_field,
                                 TableNotes* notes = nullptr);

// Whether a text is a whole number as %d writes it.
bool is_whole_number(const std::string& text);

}  // namespace zerostep
