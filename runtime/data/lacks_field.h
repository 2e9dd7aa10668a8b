#pragma once
#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace zerostep {

// Whether a row of a .jsonl file, an object, lacks one of the fields that make its text, or has null there (data.missing).
inline bool lacks_field(const nlohmann::json& row, const std::string& text_field, const std::vector<std::string>& join_fields) {
  const auto lacks = [&](const std::string& name) {
    const auto found = row.find(name);
    return found == row.end() || found->is_null();
  };
  return lacks(text_field) || std::any_of(join_fields.begin(), join_fields.end(), lacks);
}

}  // namespace zerostep
