#include "runtime/data/table_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

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
// Objects around a field whose path is told, and fields inside objects: of one object, and of all.
constexpr int kMostNested = 8;
constexpr size_t kMostInside = 200;

bool has_type(std::string_view types, std::string_view type) {
  for (size_t begin = 0; begin <= types.size();) {
    const size_t end = std::min(types.find(kOr, begin), types.size());
    if (types.substr(begin, end - begin) == type) return true;
    begin = end + kOr.size();
  }
  return false;
}

void add(std::vector<TableField>& fields, std::string_view name, std::string_view type, bool is_text, size_t outermost) {
  const auto known = std::find_if(fields.begin(), fields.end(), [&](const TableField& other) { return other.name == name; });
  if (known == fields.end()) {
    if (outermost > 0 && fields.size() >= kMostInside) return add(fields, name.substr(0, outermost), "object of further fields", false, 0);
    fields.push_back({std::string(name), std::string(type), is_text, outermost});
    return;
  }
  known->is_text = known->is_text || is_text;
  if (known->type == type) return;
  for (std::string_view rest = type; !rest.empty();) {
    const size_t end = std::min(rest.find(kOr), rest.size());
    if (const std::string_view one = rest.substr(0, end); !has_type(known->type, one)) known->type.append(kOr).append(one);
    rest.remove_prefix(std::min(rest.size(), end + kOr.size()));
  }
}

// `path` is what stands before the names of the object's fields; it comes back as it was.
template <typename Json>
void add_inside(std::vector<TableField>& fields, const Json& object, std::string& path, size_t outermost, int depth) {
  for (const auto& [name, value] : object.items()) {
    const size_t before = path.size();
    path += name;
    if (value.is_object() && !value.empty() && value.size() <= kMostInside && depth < kMostNested) {
      const size_t length = path.size();
      path += '.';
      add_inside(fields, value, path, outermost > 0 ? outermost : length, depth + 1);
    } else {
      const char* type = value.is_array() ? "list" : value.is_number_integer() ? "integer" : value.type_name();
      add(fields, path, type, value.is_string(), outermost);
    }
    path.resize(before);
  }
}

// In the order in which they occur.
std::vector<TableField> fields_of_lines(const std::string& path, const std::string& key) {
  TextStream stream(path, key);
  std::string_view text = stream.look(kLookedAt);
  // Whole lines.
  if (text.size() > kLookedAt) text = text.substr(0, text.find('\n', kLookedAt - 1));
  std::vector<TableField> out;
  std::string before;
  for_each_line(text, [&](std::string_view line, int64_t) {
    const nlohmann::ordered_json row = nlohmann::ordered_json::parse(unless_too_deep(line), nullptr, false);
    if (row.is_object()) add_inside(out, row, before, 0, 1);  // whoever reads the rows names what is wrong
  });
  return without_hollow_objects(std::move(out));
}

}  // namespace

void add_field(std::vector<TableField>& fields, const TableField& field) {
  add(fields, field.name, field.type, field.is_text, field.outermost);
}

void add_fields_of(const nlohmann::json& row, std::vector<TableField>& fields) {
  std::string before;
  add_inside(fields, row, before, 0, 1);
}

std::vector<TableField> without_hollow_objects(std::vector<TableField> fields) {
  std::vector<TableField> out;
  for (const TableField& field : fields) {
    const bool is_hollow =
        field.type == "null" || field.type == "object" || field.type == "null or object" || field.type == "object or null";
    const auto is_inside = [&](const TableField& other) { return other.outermost > 0 && other.name.starts_with(field.name + "."); };
    if (!is_hollow || std::none_of(fields.begin(), fields.end(), is_inside)) out.push_back(field);
  }
  return out;
}

std::vector<TableField> table_fields(const std::string& path, const std::string& key) {
  const std::string name = uncompressed_name(path);
  if (name.ends_with(".jsonl")) return fields_of_lines(path, key);
  if (!path.ends_with(".parquet") && !path.ends_with(".arrow")) return {};
  return open_columns({path, path.ends_with(".parquet"), {}, key, 1})->columns();
}

}  // namespace zerostep
