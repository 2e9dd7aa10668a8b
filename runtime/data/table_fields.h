#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
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

// Adds a field to those of other rows: of one that is known the types that are new, as "string or null".
void add_field(std::vector<TableField>& fields, const TableField& field);
// A value of a row of JSON as a field.
TableField field_of(std::string_view name, const nlohmann::json& value);

}  // namespace zerostep
