#pragma once
#include <optional>
#include <vector>

#include "base/nth.h"
#include "runtime/plan/plan.h"

namespace zerostep {

// Adds to a plan the gathers of parameters that are not whole on the device, before their use and ahead of it, and their releases. The
// order of calls: largest_visit() -> the plan's limits -> make_rings() -> for each visit gather_for, prefetch_after, (the visit),
// release_after -> release_all.
class ParameterCoordinator {
 public:
  // Of a plan whose visits and options are known. Both must outlive the object.
  ParameterCoordinator(const ModelLayout& layout, Plan& plan);

  // Elements that the visit which gathers most needs at once.
  int64_t largest_visit() const;
  void make_rings();

  // The slot that a group is gathered in. -1: not gathered now, or whole in its own buffer.
  int slot_of(int g) const { return nth(slot_of_, g); }
  // Gathers what the visit needs and the device does not hold. ProtocolError where max_live_parameters leaves no room.
  void gather_for(size_t v);
  // Gathers ahead what later visits need, within prefetch_bucket.
  void prefetch_after(size_t v);
  // Releases what no later visit needs within max_reuse_distance.
  void release_after(size_t v);
  void release_all();

 private:
  const FlatGroup& group(int g) const { return layout_.group(g); }
  bool is_live(int g) const { return nth(slot_of_, g) >= 0; }
  int64_t elements_of(const std::vector<int>& groups) const;
  // Index of the first use of a group at or after a visit; nullopt: none in this step.
  std::optional<size_t> next_use(int g, size_t v) const;
  void gather(int g);
  void release(int g);
  // Evicts the groups whose next use is farthest, later than `needed_at`, until `elements` more fit. False (and nothing done) when they
  // cannot.
  bool make_room(int64_t elements, size_t now, size_t needed_at);

  const ModelLayout& layout_;
  Plan& plan_;
  std::vector<std::vector<int>> needs_;       // per visit: groups in slots that it reads
  std::vector<std::vector<size_t>> uses_;     // per group: visits that read it
  std::vector<int64_t> needed_before_;        // per visit: elements that those before it need
  std::vector<std::vector<int>> free_slots_;  // per parameter ring: the one released longest ago first
  std::vector<int> slot_of_;                  // per group
  std::vector<bool> gathered_unused_;         // per group: gathered ahead, and no visit has read it since
  std::vector<int> live_order_;               // groups in slots, the one gathered longest ago first
  int64_t live_elements_ = 0;
};

}  // namespace zerostep
