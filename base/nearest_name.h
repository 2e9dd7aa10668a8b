#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zerostep {

// Insertions, deletions, substitutions and swaps of neighbours that turn one name into the other; letters compare without case.
// Gives limit + 1 as soon as the distance is known to exceed `limit`.
size_t edit_distance(std::string_view a, std::string_view b, size_t limit);

// The candidate that a mistyped name most likely means; the first of equals. Empty when none is near: more than two edits and more than a
// third of the name, or more than a third of the longer of both with another first letter.
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates);

// What a name that is not known may mean: the nearest one; where there is none those, three at most and in their order, that hold the name
// or begin with two thirds of it.
std::vector<std::string_view> near_names(std::string_view name, std::span<const std::string_view> candidates);

// "; did you mean a, b or c?" of near_names(); "." where there is none. Ends a sentence.
std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace zerostep
