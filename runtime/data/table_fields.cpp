#include "runtime/data/table_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "models/text_file.h"
#include "runtime/data/arrow_library.h"
#include "runtime/data/compressed_file.h"
#include "runtime/data/text_stream.h"

namespace zerostep {
namespace {

constexpr size_t kLookedAt = 1 << 20;

std::string type_of(const nlohmann::json& value) {
  if (value.is_number()) return value.is_number_float() ? "number" : "integer";
  if (value.is_array()) return "list";
  return value.type_name();
}

// The types of each name, in the order in which they occur: "string", or "string or null".
std::vector<TableField> fields_of_lines(const std::string& path, const std::string& key) {
  TextStream stream(path, key);
  std::string_view text = stream.look(kLookedAt);
  // Whole lines.
  if (text.size() > kLookedAt) text = text.substr(0, text.find('\n', kLookedAt - 1));
  std::vector<TableField> out;
  for_each_line(text, [&](std::string_view line, int64_t) {
    const nlohmann::ordered_json row = nlohmann::ordered_json::parse(line.begin(), line.end(), nullptr, false);
    if (!row.is_object()) return;  // whoever reads the rows names what is wrong
    for (const auto& [name, value] : row.items()) {
      auto field = std::find_if(out.begin(), out.end(), [&, n = &name](const TableField& known) { return known.name == *n; });
      if (field == out.end()) field = out.insert(out.end(), {name, "", false});
      const std::string type = type_of(value);
      field->is_text = field->is_text || value.is_string();
      if (field->type.find(type) == std::string::npos) field->type += (field->type.empty() ? "" : " or ") + type;
    }
  });
  return out;
}

}  // namespace

std::vector<TableField> table_fields(const std::string& path, const std::string& key) {
  const std::string name = uncompressed_name(path);
  if (name.ends_with(".jsonl")) return fields_of_lines(path, key);
  if (!path.ends_with(".parquet") && !path.ends_with(".arrow")) return {};
  return open_columns({path, path.ends_with(".parquet"), {}, key, 1})->columns();
}

}  // namespace zerostep
