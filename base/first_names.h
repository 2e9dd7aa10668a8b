#pragma once
#include <string>
#include <vector>

namespace zerostep {

// For messages: names after commas, of more than five the first ones and how many more there are ("a, b, c, d, e and 2 more").
std::string first_names(const std::vector<std::string>& names);

}  // namespace zerostep
