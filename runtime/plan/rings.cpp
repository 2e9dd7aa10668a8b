#include "runtime/plan/rings.h"

#include <algorithm>
#include <string>

#include "base/nth.h"

namespace zerostep {

std::vector<int> assign_rings(const std::vector<int64_t>& bytes, const std::vector<bool>& wanted, std::vector<RingPlan>& rings,
                              const char* what, const std::vector<FlatGroup>& groups) {
  std::vector<int> order, ring_of(bytes.size(), -1);
  for (int g = 0; g < std::ssize(bytes); ++g)
    if (nth(wanted, g)) order.push_back(g);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return nth(bytes, a) > nth(bytes, b); });
  for (const int g : order) {
    const int64_t size = nth(bytes, g);
    if (rings.empty() || size < rings.back().slot_bytes - rings.back().slot_bytes / 8)
      rings.push_back({std::string(what) + " like " + nth(groups, g).name, size, 0, {}});
    rings.back().groups.push_back(g);
    nth(ring_of, g) = static_cast<int>(rings.size()) - 1;
  }
  return ring_of;
}

}  // namespace zerostep
