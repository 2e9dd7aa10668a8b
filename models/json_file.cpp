#include "models/json_file.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "base/json_depth.h"
#include "base/mapped_file.h"

namespace zerostep {
namespace {

// What nlohmann's "[json.exception.parse_error.101] parse error at line 3, column 1: REASON" tells beside the place, which is told apart.
std::string reason_of(std::string_view what) {
  const size_t column = what.find(", column "), reason = what.find(": ", column == std::string_view::npos ? 0 : column);
  std::string text(reason == std::string_view::npos ? what : what.substr(reason + 2));
  // What was read last may hold the bytes that are no text.
  if (text.find("ill-formed UTF-8") != std::string::npos) text.resize(std::min(text.find("; last read"), text.size()));
  constexpr size_t kLongest = 300;
  return text.substr(0, kLongest);
}

}  // namespace

nlohmann::json parse_json_file(const std::string& path) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (is_json_too_deep(text)) fail_input("{}: nests objects or lists more than {} deep, which is not read", path, kDeepestJson);
  try {
    return nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::parse_error& error) {
    const std::string_view before = text.substr(0, std::min(error.byte > 0 ? error.byte - 1 : 0, text.size()));
    const size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
    fail_input("{}:{}:{}: not valid JSON: {}", path, std::count(before.begin(), before.end(), '\n') + 1, before.size() - line_begin + 1,
               reason_of(error.what()));
  } catch (const nlohmann::json::exception& error) {
    fail_input("{}: not valid JSON: {}", path, reason_of(error.what()));
  }
}

nlohmann::json read_json_object(const std::string& path) {
  nlohmann::json read = parse_json_file(path);
  if (!read.is_object()) fail_input("{}: is {} and not a JSON object, {{ ... }}", path, read.type_name());
  return read;
}

}  // namespace zerostep
