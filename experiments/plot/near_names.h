#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// What a name that is not known may mean, for messages. The one of `names` that is fewest letters away, where those are no more than a
// third of the longer name; else those, three at most and in their order, that hold it or begin with two thirds of it. None: nothing is
// near.
std::vector<std::string_view> near_names(std::string_view name, const std::vector<std::string_view>& names);

// "; did you mean a, b or c?"; "." where nothing is near. Ends a sentence.
std::string meant(std::string_view name, const std::vector<std::string_view>& names);

}  // namespace zerostep
