#pragma once
#include <span>
#include <string>
#include <vector>

namespace zerostep {

// A series as a line of block characters, the lowest value the lowest block: at most `width` of them, each the mean of its equal share of
// the values, those that are no finite number left out. A share without any is a blank; values that are all alike are in the middle.
std::string sparkline(std::span<const double> values, int width);

// Values as columns of block characters, `height` lines from the top down, the highest value a full column and the lowest an eighth of a
// line; a value that is no finite number is an empty column. Each column is `column_width` wide, with a blank behind it.
std::vector<std::string> columns_of_blocks(std::span<const double> values, int height, int column_width);

}  // namespace zerostep
