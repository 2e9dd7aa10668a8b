#pragma once
#include <algorithm>
#include <vector>

#include "runtime/plan/buckets.h"

namespace zerostep {

// Adds to a plan the reductions of gradients, bucket by bucket, and gives gradients the slots that backward passes write into.
class GradientBuckets {
 public:
  // Of a plan whose visits and options are known.
  GradientBuckets(const ModelLayout& layout, Plan& plan) : layout_(layout), plan_(plan) {
    touches_.resize(layout_.groups.size());
    for (size_t v = 0; v < plan_.visits.size(); ++v) {
      const Visit& at = visit_at(v);
      plan_.has_backward |= at.kind == VisitKind::Backward;
      if (at.kind == VisitKind::Backward || at.reads_gradient)
        for (int g : layout_.used_by(at.unit))
          if (group(g).trainable) nth(touches_, g).push_back(v);
    }
  }

  void make_rings() {
    std::vector<int64_t> bytes;
    std::vector<bool> has_slot;
    for (const FlatGroup& g : layout_.groups) {
      bytes.push_back(num_bytes(g.full_elements(), DType::F32));
      has_slot.push_back(g.trainable && !keeps_gradients_whole(plan_.options) && !nth(touches_, g.id).empty());
    }
    plan_.gradient_ring_of = ring_classes(bytes, has_slot, plan_.gradient_rings, "gradients", layout_.groups);
    rings_.resize(plan_.gradient_rings.size());
    slot_of_.assign(layout_.groups.size(), -1);
    whole_is_written_.assign(layout_.groups.size(), false);
  }

  // Stage 0 has summed gradients whole on every rank; elsewhere each rank has its part.
  std::vector<GroupSlot> gather_for(size_t v) {
    std::vector<GroupSlot> out;
    if (!visit_at(v).reads_gradient) return out;
    std::vector<int> used(plan_.gradient_rings.size(), 0);
    for (int g : layout_.used_by(visit_at(v).unit)) {
      if (!group(g).trainable) continue;
      out.push_back({g, -1});
      if ((ranks() == 1 && keeps_gradients_whole(plan_.options)) || plan_.options.stage == 0) continue;
      const int ring = nth(plan_.gradient_ring_of, g);
      Action a{.kind = ActionKind::GatherGradient};
      a.group = g;
      if (ring >= 0) {
        a.slot = nth(used, ring)++;
        int& slots = nth(plan_.gradient_rings, ring).num_slots;
        slots = std::max(slots, a.slot + 1);
        out.back().slot = a.slot;
      }
      a.elements_gathered = counted_gather(group(g).full_elements(), ranks());
      plan_.actions.push_back(std::move(a));
    }
    return out;
  }

  // Gradients of one rank are added up by the backward itself, whatever the tier: where they rest elsewhere, the sums of earlier
  // micro-batches come to the slot first.
  GradientUse use_gradient(int g, bool has_sums) {
    const size_t i = static_cast<size_t>(g);
    if (plan_.gradient_ring_of[i] < 0) {
      const bool fresh = !whole_is_written_[i];
      whole_is_written_[i] = true;
      return {g, -1, fresh};
    }
    if (slot_of_[i] >= 0) return {g, slot_of_[i], false};
    const size_t ring = static_cast<size_t>(plan_.gradient_ring_of[i]);
    GradientRing& slots = rings_[ring];
    RingPlan& plan = plan_.gradient_rings[ring];
    const int wanted = plan_.options.overlap && plan.groups.size() > 1 ? 2 : 1;
    int slot;
    if (plan.num_slots >= wanted && !slots.reducing.empty()) {
      slot = slots.reducing.front();  // the backward that writes it waits for its reduction
      slots.reducing.erase(slots.reducing.begin());
    } else {
      slot = plan.num_slots++;
    }
    slot_of_[i] = slot;
    if (ranks() > 1 || !has_sums) return {g, slot, true};
    Action a{.kind = ActionKind::GatherGradient};
    a.group = g;
    a.slot = slot;
    plan_.actions.push_back(std::move(a));
    return {g, slot, false};
  }

  // Gradients are complete after the last backward of the micro-batch that touches them (of a tied weight: its owner's).
  void reduce_after(size_t v) {
    if (visit_at(v).kind != VisitKind::Backward) return;
    const int micro = visit_at(v).micro_batch;
    const bool last_micro = micro == plan_.visits.back().micro_batch;
    for (int g : layout_.used_by(visit_at(v).unit)) {
      const auto& touches = nth(touches_, g);
      const auto after = std::upper_bound(touches.begin(), touches.end(), v);
      const bool complete = group(g).trainable && (after == touches.end() || visit_at(*after).micro_batch != micro);
      if (!complete || (keeps_gradients_whole(plan_.options) && (ranks() == 1 || !last_micro))) continue;
      bucket_.push_back(g);
      bucket_elements_ += group(g).full_elements();
      // Of what rests in files one group at a time has its place in memory.
      if (plan_.options.gradient_tier == Tier::File && !keeps_gradients_whole(plan_.options)) flush_reductions(micro > 0, last_micro);
    }
    const bool end_of_micro = v + 1 == plan_.visits.size() || visit_at(v + 1).micro_batch != micro;
    if (end_of_micro || bucket_elements_ >= std::min(kCoalesceElements, plan_.limits.reduce_bucket))
      flush_reductions(micro > 0, last_micro);
  }

 private:
  const FlatGroup& group(int g) const { return layout_.group(g); }
  const Visit& visit_at(size_t v) const { return plan_.visits[v]; }
  int ranks() const { return layout_.options.shard_ranks; }

  void flush_reductions(bool accumulate, bool last_micro) {
    for (auto& parts : split_by_bucket(layout_, bucket_, plan_.limits.reduce_bucket)) {
      Action a{.kind = ActionKind::Reduce};
      const bool all_reduce = all_reduces_gradients(plan_.options);
      for (CollectivePart& part : parts) {
        part.slot = nth(slot_of_, part.group);
        const int64_t full = elements_of_part(layout_, part);
        // 16-bit messages are summed in fp32 on the way to the shard, so an all-reduce is a reduce-scatter and an fp32 all-gather.
        if (!all_reduce || is_16bit(plan_.options.communication_type)) a.elements_reduced += counted_gather(full, ranks());
        if (all_reduce && is_16bit(plan_.options.communication_type)) a.elements_gathered += counted_gather(full, ranks());
        if (all_reduce && !is_16bit(plan_.options.communication_type)) a.elements_reduced += 2 * counted_gather(full, ranks());
      }
      a.parts = std::move(parts);
      a.accumulate = accumulate && !keeps_gradients_whole(plan_.options) && ranks() > 1;
      a.final_reduction = last_micro;
      plan_.actions.push_back(std::move(a));
    }
    for (int g : bucket_)
      if (nth(plan_.gradient_ring_of, g) >= 0) {
        nth(rings_, nth(plan_.gradient_ring_of, g)).reducing.push_back(nth(slot_of_, g));
        nth(slot_of_, g) = -1;
      }
    bucket_.clear();
    bucket_elements_ = 0;
  }

  struct GradientRing {
    std::vector<int> reducing;  // slots whose reduction is under way or done, oldest first
  };

  const ModelLayout& layout_;
  Plan& plan_;
  std::vector<std::vector<size_t>> touches_;  // per group: visits that write its gradient, or read it reduced
  std::vector<GradientRing> rings_;
  std::vector<int> slot_of_;
  std::vector<bool> whole_is_written_;
  std::vector<int> bucket_;
  int64_t bucket_elements_ = 0;
};

}  // namespace zerostep
