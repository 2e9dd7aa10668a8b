#include <algorithm>

#include "runtime/plan/plan.h"

namespace zerostep {

std::vector<Visit> first_order_visits(int num_units, int micro_batches, int64_t segments, int first_trainable) {
  // Segments are made of the units between the first that trains (the first of all reads tokens, recomputing it saves nothing) and the last
  // (its backward follows its forward at once).
  const int begin = std::max(1, first_trainable), inner = std::max(0, num_units - 1 - begin);
  const int count = segments < 0 ? inner : static_cast<int>(std::min<int64_t>(segments, inner));
  const auto segment_of = [&](int unit) {
    const int i = unit - begin;
    return count == 0 || i < 0 || i >= inner ? -1 : static_cast<int>(static_cast<int64_t>(i) * count / inner);
  };
  // The last segment's backward comes next: its graph may as well be recorded at once.
  const auto checkpointed = [&](int unit) { return segment_of(unit) >= 0 && segment_of(unit) < count - 1; };
  const auto begins_segment = [&](int unit) { return segment_of(unit) != segment_of(unit - 1); };

  std::vector<Visit> out;
  for (int m = 0; m < micro_batches; ++m) {
    for (int u = 0; u < num_units; ++u) {
      Visit visit{u, u < first_trainable || checkpointed(u) ? VisitKind::ForwardOnly : VisitKind::Forward, m};
      visit.keep_input = checkpointed(u) && begins_segment(u);
      out.push_back(visit);
    }
    for (int u = num_units - 1; u >= first_trainable; --u) {
      if (checkpointed(u) && begins_segment(u + 1)) {
        int first = u;
        while (!begins_segment(first)) --first;
        for (int again = first; again <= u; ++again) out.push_back({again, VisitKind::Recompute, m});
      }
      out.push_back({u, VisitKind::Backward, m});
    }
  }
  return out;
}

std::vector<Visit> evaluation_visits(int num_units) {
  std::vector<Visit> out;
  for (int u = 0; u < num_units; ++u) out.push_back({u, VisitKind::ForwardOnly, 0});
  return out;
}

}  // namespace zerostep
