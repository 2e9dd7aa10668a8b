#include "runtime/data/table_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_depth.h"
#include "models/text_file.h"
#include "runtime/data/arrow_library.h"
#include "runtime/data/compressed_file.h"
#include "runtime/data/text_stream.h"

namespace zerostep {
namespace {

constexpr size_t kLookedAt = 1 << 20;
constexpr std::string_view kOr = " or ";  // between the types of a field

// In the order in which they occur.
std::vector<TableField> fields_of_lines(const std::string& path, const std::string& key) {
  TextStream stream(path, key);
  std::string_view text = stream.look(kLookedAt);
  // Whole lines.
  if (text.size() > kLookedAt) text = text.substr(0, text.find('\n', kLookedAt - 1));
  std::vector<TableField> out;
  for_each_line(text, [&](std::string_view line, int64_t) {
    const nlohmann::ordered_json row = nlohmann::ordered_json::parse(unless_too_deep(line), nullptr, false);
    if (!row.is_object()) return;  // whoever reads the rows names what is wrong
    for (const auto& [name, value] : row.items()) add_field(out, field_of(name, value));
  });
  return out;
}

}  // namespace

void add_field(std::vector<TableField>& fields, const TableField& field) {
  const auto known = std::find_if(fields.begin(), fields.end(), [&](const TableField& other) { return other.name == field.name; });
  if (known == fields.end()) {
    fields.push_back(field);
    return;
  }
  known->is_text = known->is_text || field.is_text;
  if (known->type == field.type) return;
  for (std::string_view rest = field.type; !rest.empty();) {
    const size_t end = std::min(rest.find(kOr), rest.size());
    const std::string type(rest.substr(0, end));
    rest.remove_prefix(std::min(rest.size(), end + kOr.size()));
    if ((known->type + std::string(kOr)).find(type + std::string(kOr)) == std::string::npos) known->type += std::string(kOr) + type;
  }
}

TableField field_of(std::string_view name, const nlohmann::json& value) {
  const char* type = value.is_array() ? "list" : value.is_number_integer() ? "integer" : value.type_name();
  return {std::string(name), type, value.is_string()};
}

std::vector<TableField> table_fields(const std::string& path, const std::string& key) {
  const std::string name = uncompressed_name(path);
  if (name.ends_with(".jsonl")) return fields_of_lines(path, key);
  if (!path.ends_with(".parquet") && !path.ends_with(".arrow")) return {};
  return open_columns({path, path.ends_with(".parquet"), {}, key, 1})->columns();
}

}  // namespace zerostep
