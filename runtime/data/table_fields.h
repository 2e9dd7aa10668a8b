#pragma once
#include <string>
#include <vector>

namespace zerostep {

// A field of the rows of a file.
struct TableField {
  std::string name, type;
  bool is_text = false;
};

// The fields of a .jsonl file's first rows (those of the first megabyte, a type each that they have), or of a .parquet or .arrow file. None
// of a .txt file. InputError, beginning with `key`, where it is damaged.
std::vector<TableField> table_fields(const std::string& path, const std::string& key);

}  // namespace zerostep
