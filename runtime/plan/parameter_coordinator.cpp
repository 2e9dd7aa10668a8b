#include "runtime/plan/parameter_coordinator.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "runtime/plan/rings.h"

namespace zerostep {

ParameterCoordinator::ParameterCoordinator(const ModelLayout& layout, Plan& plan) : layout_(layout), plan_(plan) {
  const size_t n = plan_.visits.size();
  needs_.resize(n);
  uses_.resize(layout_.groups.size());
  for (size_t v = 0; v < n; ++v) {
    const Visit& visit = plan_.visits[v];
    if (!reads_parameters(layout_, visit)) continue;
    for (const int g : layout_.used_by(visit.unit))
      if (!keeps_parameters_whole(group(g), plan_.options)) {
        needs_[v].push_back(g);
        nth(uses_, g).push_back(v);
      }
  }
  needed_before_.assign(n + 1, 0);
  for (size_t v = 0; v < n; ++v) needed_before_[v + 1] = needed_before_[v] + elements_of(needs_[v]);
}

int64_t ParameterCoordinator::largest_visit() const {
  int64_t largest = 0;
  for (const auto& needed : needs_) largest = std::max(largest, elements_of(needed));
  return largest;
}

void ParameterCoordinator::make_rings() {
  std::vector<int64_t> bytes;
  std::vector<bool> has_slot;
  for (const FlatGroup& g : layout_.groups) {
    bytes.push_back(num_bytes(g.full_elements(), g.type));
    has_slot.push_back(!keeps_parameters_whole(g, plan_.options) && !nth(uses_, g.id).empty());
  }
  plan_.parameter_ring_of = assign_rings(bytes, has_slot, plan_.parameter_rings, "parameters", layout_.groups);
  free_slots_.resize(plan_.parameter_rings.size());
  slot_of_.assign(layout_.groups.size(), -1);
  gathered_unused_.assign(layout_.groups.size(), false);
}

void ParameterCoordinator::gather_for(size_t v) {
  int64_t missing = 0;
  for (const int g : needs_[v]) missing += is_live(g) ? 0 : group(g).full_elements();
  if (missing > 0 && !make_room(missing, v, v))
    fail_protocol("[plan] no room for unit {} within {} live elements", plan_.visits[v].unit, plan_.limits.max_live_parameters);
  for (const int g : needs_[v])
    if (!is_live(g)) gather(g);
}

void ParameterCoordinator::prefetch_after(size_t v) {
  if (plan_.limits.prefetch_bucket == 0) return;
  for (const int g : needs_[v]) nth(gathered_unused_, g) = false;
  int64_t ahead = 0;
  for (const int g : live_order_) ahead += nth(gathered_unused_, g) ? group(g).full_elements() : 0;
  for (size_t later = v + 1; later < plan_.visits.size(); ++later)
    for (const int g : needs_[later]) {
      if (is_live(g)) continue;
      const int64_t size = group(g).full_elements();
      if (ahead + size > plan_.limits.prefetch_bucket || !make_room(size, v, later)) return;
      gather(g);
      ahead += size;
    }
}

void ParameterCoordinator::release_after(size_t v) {
  for (const int g : needs_[v]) {
    const auto next = next_use(g, v + 1);
    const int64_t distance = next ? needed_before_[*next] - needed_before_[v + 1] : INT64_MAX;
    if (!next || distance > plan_.limits.max_reuse_distance) release(g);
  }
}

void ParameterCoordinator::release_all() {
  while (!live_order_.empty()) release(live_order_.front());
}

int64_t ParameterCoordinator::elements_of(const std::vector<int>& groups) const {
  return std::accumulate(groups.begin(), groups.end(), int64_t{0}, [&](int64_t sum, int g) { return sum + group(g).full_elements(); });
}

std::optional<size_t> ParameterCoordinator::next_use(int g, size_t v) const {
  const auto& uses = nth(uses_, g);
  const auto it = std::lower_bound(uses.begin(), uses.end(), v);
  return it == uses.end() ? std::nullopt : std::optional(*it);
}

void ParameterCoordinator::gather(int g) {
  const int ring = nth(plan_.parameter_ring_of, g);
  auto& free = nth(free_slots_, ring);
  int slot;
  if (free.empty()) {
    slot = nth(plan_.parameter_rings, ring).num_slots++;
  } else {
    slot = free.front();
    free.erase(free.begin());
  }
  nth(slot_of_, g) = slot;
  nth(gathered_unused_, g) = true;
  live_elements_ += group(g).full_elements();
  live_order_.push_back(g);
  Action a{.kind = ActionKind::Gather};
  a.group = g;
  a.slot = slot;
  a.elements_gathered = counted_gather(group(g).full_elements(), layout_.options.shard_ranks);
  plan_.actions.push_back(std::move(a));
}

void ParameterCoordinator::release(int g) {
  nth(free_slots_, nth(plan_.parameter_ring_of, g)).push_back(nth(slot_of_, g));
  Action a{.kind = ActionKind::Release};
  a.group = g;
  a.slot = nth(slot_of_, g);
  plan_.actions.push_back(std::move(a));
  nth(slot_of_, g) = -1;
  live_elements_ -= group(g).full_elements();
  std::erase(live_order_, g);
}

bool ParameterCoordinator::make_room(int64_t elements, size_t now, size_t needed_at) {
  std::vector<std::pair<size_t, int>> candidates;
  for (const int g : live_order_) {
    const auto next = next_use(g, now);
    const size_t at = next ? *next : SIZE_MAX;
    if (at > needed_at) candidates.emplace_back(at, g);
  }
  std::sort(candidates.rbegin(), candidates.rend());
  int64_t freed = 0;
  size_t count = 0;
  while (live_elements_ - freed + elements > plan_.limits.max_live_parameters) {
    if (count == candidates.size()) return false;
    freed += group(candidates[count++].second).full_elements();
  }
  for (size_t i = 0; i < count; ++i) release(candidates[i].second);
  return true;
}

}  // namespace zerostep
