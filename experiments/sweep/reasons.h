#pragma once
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace zerostep {

// What is wrong with points, each by its name; of a point there may be several.
using PointErrors = std::vector<std::pair<std::string, std::string>>;

// How many points have any.
size_t num_points_of(const PointErrors& errors);
// A line for each reason, beginning with a line break, after the names of those that have it ("a, b and 3 more"), or "every point", in the
// order of the first ones; a reason alone that all of several points have on the same line. `points`: how many there are.
std::string reasons_of(const PointErrors& errors, size_t points);
// InputError: what is wrong with keys (SweepFile::wrong_keys), and all of the points' errors in one paragraph, unless there are none of
// both. `file`: the sweep's. `more` stands at its end.
void refuse_points(const std::string& file, const std::vector<std::string>& wrong_keys, const PointErrors& errors, size_t points,
                   const std::string& more = "");

}  // namespace zerostep
