#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/table_fields.h"

namespace zerostep {

// What a field of a row holds.
struct FieldValue {
  enum class Kind : uint8_t {
    Missing,  // the row, or its table, has no such field
    Null,
    Text,
    Number,   // as JSON writes it
    Boolean,  // "true" or "false"
    Texts,    // a list of texts, joined with spaces
    Other     // an object, another list, a time...: as a message shows it
  };
  Kind kind = Kind::Missing;
  std::string_view text;  // valid until the next row, or until the same field is asked again
};

// Rows of a file, one after the other, with the fields that were asked for. One thread reads a batch; several batches may be read at once.
class RowBatch {
 public:
  virtual ~RowBatch() = default;
  // Goes to the next row, the first at first; false behind the last. InputError, naming file and row, where it cannot be read.
  virtual bool next() = 0;
  // Of the fields that were asked for, by its place among them.
  virtual FieldValue field(size_t index) = 0;
  // The name of its type.
  virtual std::string type_of(size_t index) = 0;
  // Line of a file of lines, or number of the row in its table, from 1.
  virtual int64_t number() const = 0;
  // For messages: "FILE:12" or "FILE: row 12".
  virtual std::string place() const = 0;
  // For messages: where a name was looked for in vain, and what there is. `named_by` is what named it: "FILE:12 has no field 'title', which
  // data.text_field names; its fields are: id, text".
  virtual std::string lacks(const std::string& field, const std::string& named_by) const = 0;
  // For messages: what else there is of a wanted kind, "" or " (its columns of text are: title, text)".
  virtual std::string texts_there_are() const { return ""; }
  // Whether texts are known to be UTF-8.
  virtual bool is_checked_utf8() const = 0;
  // Text that the batch holds, about.
  virtual size_t num_bytes() const = 0;
  // Adds what fields this row has, beyond RowReader::columns() of its file; nothing of a file that says its columns.
  virtual void add_fields(std::vector<TableField>&) const {}
  // Lines that next() has passed over because nothing stands in them; 0 of a file that has no lines.
  virtual int64_t num_blank_lines() const { return 0; }
};

// The rows of a file in their order, a batch of about a megabyte of text at a time.
class RowReader {
 public:
  virtual ~RowReader() = default;
  // Nothing behind the last. InputError naming the file where it is damaged.
  virtual std::unique_ptr<RowBatch> next() = 0;
  // Of a file that says them: its columns, those inside others by their paths.
  virtual std::vector<TableField> columns() const { return {}; }
  // How far the reader has come in the file.
  virtual int64_t bytes_read() const = 0;
};

// A .jsonl (also compressed), .parquet or .arrow file. A field is named by its name, or, inside another, by a path: "about.place". `key`
// comes first in messages. InputError naming the file where it is none of these or damaged, RunError where the library that reads tables
// is missing.
std::unique_ptr<RowReader> open_rows(const std::string& path, const std::vector<std::string>& fields, const std::string& key);

}  // namespace zerostep
