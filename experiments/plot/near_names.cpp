#include "experiments/plot/near_names.h"

#include <algorithm>

#include "base/nearest_name.h"

namespace zerostep {
namespace {

// Whether a name holds the text, or begins with two thirds of it; of fewer than three letters nothing can be said.
bool resembles(std::string_view name, std::string_view text) {
  constexpr size_t kLeast = 3;
  if (text.size() < kLeast) return false;
  if (name.find(text) != name.npos) return true;
  const auto [end, other] = std::mismatch(text.begin(), text.end(), name.begin(), name.end());
  const auto shared = static_cast<size_t>(end - text.begin());
  return shared >= kLeast && 3 * shared >= 2 * text.size();
}

}  // namespace

std::vector<std::string_view> near_names(std::string_view name, const std::vector<std::string_view>& names) {
  constexpr size_t kMostAway = 8, kMostNames = 3;
  std::string_view nearest;
  size_t least = kMostAway + 1;
  for (std::string_view candidate : names) {
    const size_t away = edit_distance(name, candidate, kMostAway);
    if (away < least && 3 * away <= std::max(name.size(), candidate.size())) {
      least = away;
      nearest = candidate;
    }
  }
  if (!nearest.empty()) return {nearest};
  std::vector<std::string_view> out;
  for (std::string_view candidate : names)
    if (out.size() < kMostNames && resembles(candidate, name) && std::find(out.begin(), out.end(), candidate) == out.end())
      out.push_back(candidate);
  return out;
}

std::string meant(std::string_view name, const std::vector<std::string_view>& names) {
  const std::vector<std::string_view> near = near_names(name, names);
  if (near.empty()) return ".";
  std::string out = "; did you mean ";
  for (size_t i = 0; i < near.size(); ++i) {
    if (i > 0) out += i + 1 < near.size() ? ", " : " or ";
    out += near[i];
  }
  return out + "?";
}

}  // namespace zerostep
