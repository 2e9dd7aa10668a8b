#pragma once
#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace zerostep {

// A field of the rows of a file; one inside an object or struct by its path, "about.place".
struct TableField {
  std::string name, type;
  bool is_text = false;
  size_t outermost = 0;  // of a field inside an object of JSON: length of the name of the outermost one; 0 of any other
};

// The fields of a .jsonl file's first rows (those of the first megabyte, a type each that they have), or of a .parquet or .arrow file. None
// of a .txt file. InputError, beginning with `key`, where it is damaged.
std::vector<TableField> table_fields(const std::string& path, const std::string& key);

// Adds a field to those of other rows: of one that is known the types that are new, as "string or null". Of fields inside objects so many
// are kept as no list needs more of: objects may have names that are data. The outermost object of a further one is then a field of type
// "object of further fields".
void add_field(std::vector<TableField>& fields, const TableField& field);
// The same of all fields of a row of JSON, those inside objects too.
void add_fields_of(const nlohmann::json& row, std::vector<TableField>& fields);
// Of the fields of several rows: without objects that are empty or null in some rows, whose fields in other rows are there.
std::vector<TableField> without_hollow_objects(std::vector<TableField> fields);

}  // namespace zerostep
