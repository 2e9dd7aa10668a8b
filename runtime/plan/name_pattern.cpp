#include "runtime/plan/name_pattern.h"

#include <fnmatch.h>

#include <algorithm>

namespace zerostep {

bool matches_pattern(const std::string& name, const std::string& pattern) { return fnmatch(pattern.c_str(), name.c_str(), 0) == 0; }

bool matches_any(const std::string& name, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) { return matches_pattern(name, pattern); });
}

}  // namespace zerostep
