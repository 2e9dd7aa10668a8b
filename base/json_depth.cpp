#include "base/json_depth.h"

#include <algorithm>

namespace zerostep {

bool is_json_too_deep(std::string_view text) {
  if (text.size() <= kDeepestJson) return false;
  const auto opening = static_cast<size_t>(std::count(text.begin(), text.end(), '[') + std::count(text.begin(), text.end(), '{'));
  if (opening <= kDeepestJson) return false;  // of most texts, at the speed of memory
  size_t depth = 0;
  bool is_in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (is_in_string) {
      if (c == '\\') ++i;
      is_in_string = c != '"';
    } else if (c == '"') {
      is_in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

}  // namespace zerostep
