#include "experiments/plot/label_places.h"

#include <algorithm>
#include <numeric>

namespace zerostep {

std::vector<double> spread(const std::vector<double>& wanted, double spacing, double top, double bottom) {
  const size_t count = wanted.size();
  if (count == 0 || static_cast<double>(count - 1) * spacing > bottom - top) return {};
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
  // Labels that touch move as one block, which stands at the mean of what its labels want.
  struct Group {
    double sum = 0, count = 0;  // of the heights wanted by its first label
    double first() const { return sum / count; }
  };
  std::vector<Group> groups;
  for (size_t i : order) {
    groups.push_back({wanted[i], 1});
    while (groups.size() > 1) {
      Group& above = groups[groups.size() - 2];
      const Group& below = groups.back();
      if (above.first() + above.count * spacing <= below.first()) break;
      above.sum += below.sum - below.count * above.count * spacing;
      above.count += below.count;
      groups.pop_back();
    }
  }
  std::vector<double> out(count);
  size_t next = 0;
  for (const Group& group : groups)
    for (double k = 0; k < group.count; ++k) out[order[next++]] = group.first() + k * spacing;
  // What would leave the panel is pushed back into it, from either end.
  double least = top;
  for (size_t i : order) least = (out[i] = std::max(out[i], least)) + spacing;
  double most = bottom;
  for (size_t k = count; k-- > 0;) most = (out[order[k]] = std::min(out[order[k]], most)) - spacing;
  return out;
}

}  // namespace zerostep
