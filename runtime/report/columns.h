#pragma once
#include <string>
#include <string_view>

namespace zerostep {

// The beginning of a UTF-8 text that takes at most so many columns of a terminal, a character a column; whole characters.
std::string_view first_columns(std::string_view text, int columns);
// Columns that it takes.
int columns_of_text(std::string_view text);
// The text where it takes no more columns than that, else its beginning with "~" as the last of them.
std::string cut_to_columns(std::string_view text, int columns);

}  // namespace zerostep
