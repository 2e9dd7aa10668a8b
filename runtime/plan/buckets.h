#pragma once
#include <algorithm>
#include <vector>

#include "base/nth.h"
#include "runtime/plan/plan.h"

namespace zerostep {

// Collectives smaller than this cost latency, not bandwidth: small units are reduced and gathered together up to it, within the bucket
// limits.
constexpr int64_t kCoalesceElements = int64_t{1} << 20;

// Collectives over groups of at most `limit` elements each, but at least one slice.
inline std::vector<std::vector<CollectivePart>> split_by_bucket(const ModelLayout& layout, const std::vector<int>& groups, int64_t limit) {
  std::vector<std::vector<CollectivePart>> out;
  int64_t filled = 0;
  for (int g : groups)
    for (int s = 0; s < static_cast<int>(layout.group(g).layout.slices().size()); ++s) {
      const int64_t size = elements_of_part(layout, {g, s, s + 1});
      if (out.empty() || filled + size > limit) {
        out.emplace_back();
        filled = 0;
      }
      filled += size;
      if (!out.back().empty() && out.back().back().group == g)
        out.back().back().slice_end = s + 1;
      else
        out.back().push_back({g, s, s + 1});
    }
  return out;
}

// Adds rings for the groups that are `wanted`, of so many `bytes` each, to `rings`; gives each group's ring, -1: none. Groups of similar
// size share a ring, so that the large embedding does not set the size of all slots.
inline std::vector<int> ring_classes(const std::vector<int64_t>& bytes, const std::vector<bool>& wanted, std::vector<RingPlan>& rings,
                                     const char* what, const std::vector<FlatGroup>& groups) {
  std::vector<int> order, ring_of(bytes.size(), -1);
  for (size_t g = 0; g < bytes.size(); ++g)
    if (wanted[g]) order.push_back(static_cast<int>(g));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return nth(bytes, a) > nth(bytes, b); });
  for (int g : order) {
    const int64_t size = nth(bytes, g);
    if (rings.empty() || size < rings.back().slot_bytes - rings.back().slot_bytes / 8)
      rings.push_back({std::string(what) + " like " + nth(groups, g).name, size, 0, {}});
    rings.back().groups.push_back(g);
    nth(ring_of, g) = static_cast<int>(rings.size()) - 1;
  }
  return ring_of;
}

}  // namespace zerostep
