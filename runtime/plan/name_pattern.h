#pragma once
#include <string>
#include <vector>

namespace zerostep {

// Name patterns of the configuration: shell globs on whole parameter names (`*` matches any run of characters, dots too, `?` one, `[..]` a
// set).
bool matches_pattern(const std::string& name, const std::string& pattern);
bool matches_any(const std::string& name, const std::vector<std::string>& patterns);

}  // namespace zerostep
