#pragma once
#include <cstddef>
#include <string_view>

namespace zerostep {

// JSON from outside may not nest deeper: a value is copied, written and compared by a function that calls itself at each level, so that
// deeper ones could use up the stack.
inline constexpr size_t kDeepestJson = 512;

// Whether a text in JSON nests deeper than kDeepestJson. Of a text that is no JSON either may be said.
bool is_json_too_deep(std::string_view text);

// The text, or none where it nests too deep: for readers that take both as no JSON.
inline std::string_view unless_too_deep(std::string_view text) { return is_json_too_deep(text) ? std::string_view() : text; }

}  // namespace zerostep
