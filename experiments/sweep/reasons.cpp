#include "experiments/sweep/reasons.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/first_names.h"

namespace zerostep {

std::string reasons_of(const std::vector<std::pair<std::string, std::string>>& errors, const std::string& all) {
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;  // with the names of their points
  for (const auto& [name, what] : errors) {
    auto known = std::find_if(reasons.begin(), reasons.end(), [&, what = what](const auto& reason) { return reason.first == what; });
    if (known == reasons.end()) known = reasons.insert(reasons.end(), {what, {}});
    known->second.push_back(name);
  }
  if (reasons.size() == 1 && !all.empty()) return fmt::format(": {}: {}", all, reasons[0].first);
  std::string out = ":";
  for (const auto& [what, names] : reasons) out += fmt::format("\n  {}: {}", first_names(names), what);
  return out;
}

}  // namespace zerostep
