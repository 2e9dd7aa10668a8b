#pragma once
#include <vector>

#include "runtime/plan/plan.h"

namespace zerostep {

// Adds to a plan the reductions of gradients, bucket by bucket, and gives gradients the slots that backward passes write into. The order of
// calls: the plan's limits -> make_rings() -> for each visit gather_for, use_gradient of each group that its backward writes, (the visit),
// reduce_after.
class GradientBuckets {
 public:
  // Of a plan whose visits and options are known. Both must outlive the object.
  GradientBuckets(const ModelLayout& layout, Plan& plan);

  void make_rings();
  // Adds the gathers of the reduced gradients that a visit reads, and says where each lies (slot -1: in its own buffer). Stage 0 gathers
  // none: every rank has the sums.
  std::vector<GroupSlot> gather_for(size_t v);
  // Where a backward writes the gradient of a group. Gradients of one rank are added up by the backward itself, whatever the tier: where
  // they rest elsewhere, the sums of earlier micro-batches, which there are if `has_sums`, come to the slot first.
  GradientUse use_gradient(int g, bool has_sums);
  // Adds the reductions that are due after a visit: gradients are complete after the last backward of the micro-batch that touches them (of
  // a tied weight: its owner's).
  void reduce_after(size_t v);

 private:
  const FlatGroup& group(int g) const { return layout_.group(g); }
  const Visit& visit_at(size_t v) const { return plan_.visits[v]; }
  int ranks() const { return layout_.options.shard_ranks; }
  void flush_reductions(bool accumulate, bool last_micro);

  const ModelLayout& layout_;
  Plan& plan_;
  std::vector<std::vector<size_t>> touches_;  // per group: visits that write its gradient, or read it reduced
  std::vector<std::vector<int>> reducing_;    // per gradient ring: slots whose reduction is under way or done, oldest first
  std::vector<int> slot_of_;                  // per group; -1: none now
  std::vector<bool> whole_is_written_;        // per group: its own buffer has a gradient of this step
  std::vector<int> bucket_;                   // groups that are reduced together next
  int64_t bucket_elements_ = 0;
};

}  // namespace zerostep
