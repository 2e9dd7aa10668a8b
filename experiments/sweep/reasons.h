#pragma once
#include <string>
#include <utility>
#include <vector>

namespace zerostep {

// What is wrong with points, each by its name: a line for each reason, beginning with a line break, after the names of those that have it
// ("a, b and 3 more") in the order of the first ones. `all`: in place of the names where every point has one reason, then on the same line;
// "": the names always.
std::string reasons_of(const std::vector<std::pair<std::string, std::string>>& errors, const std::string& all);

}  // namespace zerostep
