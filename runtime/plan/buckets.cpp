#include "runtime/plan/buckets.h"

namespace zerostep {

std::vector<std::vector<CollectivePart>> split_by_bucket(const ModelLayout& layout, const std::vector<int>& groups, int64_t limit) {
  std::vector<std::vector<CollectivePart>> out;
  int64_t filled = 0;
  for (const int g : groups)
    for (int s = 0; s < std::ssize(layout.group(g).layout.slices()); ++s) {
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

}  // namespace zerostep
