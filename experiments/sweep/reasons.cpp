#include "experiments/sweep/reasons.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/first_names.h"
#include "base/format.h"

namespace zerostep {

size_t num_points_of(const PointErrors& errors) {
  std::set<std::string> names;
  for (const auto& [name, what] : errors) names.insert(name);
  return names.size();
}

std::string reasons_of(const PointErrors& errors, size_t points) {
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;  // with the names of their points
  for (const auto& [name, what] : errors) {
    auto known = std::find_if(reasons.begin(), reasons.end(), [&, what = what](const auto& reason) { return reason.first == what; });
    if (known == reasons.end()) known = reasons.insert(reasons.end(), {what, {}});
    if (std::find(known->second.begin(), known->second.end(), name) == known->second.end()) known->second.push_back(name);
  }
  const auto who = [&](const std::vector<std::string>& names) {
    return names.size() == points && points > 1 ? "every point" : first_names(names);
  };
  if (reasons.size() == 1 && reasons[0].second.size() == points && points > 1)
    return fmt::format(": {}: {}", who(reasons[0].second), reasons[0].first);
  std::string out = ":";
  for (const auto& [what, names] : reasons) out += fmt::format("\n  {}: {}", who(names), what);
  return out;
}

void refuse_points(const std::string& file, const std::vector<std::string>& wrong_keys, const PointErrors& errors, size_t points,
                   const std::string& more) {
  const std::string of_keys = fmt::format("{}", fmt::join(wrong_keys, "; "));
  if (errors.empty() && of_keys.empty()) return;
  if (errors.empty()) throw InputError(of_keys);
  fail_input("{}{}: {} of {} cannot run, and nothing was started{}{}", of_keys.empty() ? "" : of_keys + "\n", file, num_points_of(errors),
             counted(static_cast<int64_t>(points), "point"), reasons_of(errors, points), more);
}

}  // namespace zerostep
