#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// One line in cells, as CSV quotes them.
std::vector<std::string> csv_cells(std::string_view line);
// A cell as CSV writes it: quoted where it has to be.
std::string csv_cell(std::string_view text);
// NaN where the text is no number.
double csv_number(const char* begin, const char* end);

}  // namespace zerostep
