#include "base/nearest_name.h"

#include <algorithm>

namespace zerostep {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

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

size_t edit_distance(std::string_view a, std::string_view b, size_t limit) {
  const size_t difference = a.size() > b.size() ? a.size() - b.size() : b.size() - a.size();
  if (difference > limit) return limit + 1;
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    size_t smallest = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]);
      if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
      smallest = std::min(smallest, row[j]);
    }
    if (smallest > limit + 1) return limit + 1;
    std::swap(before, above);
    std::swap(above, row);
  }
  return std::min(above[b.size()], limit + 1);
}

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates) {
  const size_t limit = std::clamp<size_t>(name.size() / 3, 2, 8);
  std::string_view nearest;
  size_t distance = limit + 1;
  for (std::string_view candidate : candidates) {
    const size_t d = edit_distance(name, candidate, limit);
    const size_t longer = std::max(name.size(), candidate.size());
    // Nothing of the name is left when every letter changes, and little of a short one when two do: who mistypes hits the first letter.
    if (d >= distance || d >= longer || (3 * d > longer && lower(name[0]) != lower(candidate[0]))) continue;
    distance = d;
    nearest = candidate;
  }
  return nearest;
}

std::vector<std::string_view> near_names(std::string_view name, std::span<const std::string_view> candidates) {
  constexpr size_t kMostNames = 3;
  if (const std::string_view nearest = nearest_name(name, candidates); !nearest.empty()) return {nearest};
  std::vector<std::string_view> out;
  for (std::string_view candidate : candidates)
    if (out.size() < kMostNames && resembles(candidate, name) && std::find(out.begin(), out.end(), candidate) == out.end())
      out.push_back(candidate);
  return out;
}

std::string did_you_mean(std::string_view name, std::span<const std::string_view> candidates) {
  const std::vector<std::string_view> near = near_names(name, candidates);
  if (near.empty()) return ".";
  std::string out = "; did you mean ";
  for (size_t i = 0; i < near.size(); ++i) {
    if (i > 0) out += i + 1 < near.size() ? ", " : " or ";
    out += near[i];
  }
  return out + "?";
}

}  // namespace zerostep
