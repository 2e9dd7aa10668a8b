#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace zerostep {

// Length of the well-formed UTF-8 character that begins at `text[0]` (no surrogates, no overlong forms, at most U+10FFFF); 0 when there is
// none.
size_t utf8_character_length(std::string_view text);

// First position at or after `at` whose byte is not ASCII; text.size() where there is none.
size_t skip_ascii(std::string_view text, size_t at);

// `text` with every byte that belongs to no well-formed UTF-8 character replaced by U+0001, so that positions stay the same: `text` itself
// when it is well-formed, otherwise a view of `buffer`.
std::string_view with_well_formed_utf8(std::string_view text, std::string& buffer);

// Where the last character of a text that is not empty begins; of a text that is not well-formed, somewhere before its end.
size_t last_character(std::string_view text);

// Appends one code point.
void append_utf8(uint32_t code_point, std::string& out);

// Takes the first code point off well-formed UTF-8.
uint32_t take_code_point(std::string_view& text);

}  // namespace zerostep
