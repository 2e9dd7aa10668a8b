#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace zerostep {

// The value in a JSON file. InputError naming file, line and column where it is not valid JSON, and the file where it nests deeper than
// kDeepestJson.
nlohmann::json parse_json_file(const std::string& path);
// The same, and it is an object.
nlohmann::json read_json_object(const std::string& path);

}  // namespace zerostep
