#pragma once
#include <cstddef>
#include <span>
#include <string_view>

namespace zerostep {

// Insertions, deletions, substitutions and swaps of neighbours that turn one name into the other; letters compare without case.
// Gives limit + 1 as soon as the distance is known to exceed `limit`.
size_t edit_distance(std::string_view a, std::string_view b, size_t limit);

// The candidate that a mistyped name most likely means; the first of equals. Empty when none is near (more than two edits and more than a
// third of the name).
std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates);

}  // namespace zerostep
