#include "runtime/plan/gradient_buckets.h"

#include <algorithm>
#include <utility>

#include "base/nth.h"
#include "runtime/plan/buckets.h"
#include "runtime/plan/rings.h"

namespace zerostep {

GradientBuckets::GradientBuckets(const ModelLayout& layout, Plan& plan) : layout_(layout), plan_(plan) {
  touches_.resize(layout_.groups.size());
  for (size_t v = 0; v < plan_.visits.size(); ++v) {
    const Visit& at = visit_at(v);
    if (at.kind == VisitKind::Backward || at.reads_gradient)
      for (const int g : layout_.used_by(at.unit))
        if (group(g).trainable) nth(touches_, g).push_back(v);
  }
}

void GradientBuckets::make_rings() {
  std::vector<int64_t> bytes;
  std::vector<bool> has_slot;
  for (const FlatGroup& g : layout_.groups) {
    bytes.push_back(num_bytes(g.full_elements(), DType::F32));
    has_slot.push_back(g.trainable && !keeps_gradients_whole(plan_.options) && !nth(touches_, g.id).empty());
  }
  plan_.gradient_ring_of = assign_rings(bytes, has_slot, plan_.gradient_rings, "gradients", layout_.groups);
  reducing_.resize(plan_.gradient_rings.size());
  slot_of_.assign(layout_.groups.size(), -1);
  whole_is_written_.assign(layout_.groups.size(), false);
}

std::vector<GroupSlot> GradientBuckets::gather_for(size_t v) {
  std::vector<GroupSlot> out;
  if (!visit_at(v).reads_gradient) return out;
  std::vector<int> used(plan_.gradient_rings.size(), 0);
  for (const int g : layout_.used_by(visit_at(v).unit)) {
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

GradientUse GradientBuckets::use_gradient(int g, bool has_sums) {
  const int ring = nth(plan_.gradient_ring_of, g);
  if (ring < 0) {
    const bool fresh = !nth(whole_is_written_, g);
    nth(whole_is_written_, g) = true;
    return {g, -1, fresh};
  }
  int& slot = nth(slot_of_, g);
  if (slot >= 0) return {g, slot, false};
  RingPlan& plan = nth(plan_.gradient_rings, ring);
  std::vector<int>& reducing = nth(reducing_, ring);
  const int wanted = plan_.options.overlap && plan.groups.size() > 1 ? 2 : 1;
  if (plan.num_slots >= wanted && !reducing.empty()) {
    slot = reducing.front();  // the backward that writes it waits for its reduction
    reducing.erase(reducing.begin());
  } else {
    slot = plan.num_slots++;
  }
  if (ranks() > 1 || !has_sums) return {g, slot, true};
  Action a{.kind = ActionKind::GatherGradient};
  a.group = g;
  a.slot = slot;
  plan_.actions.push_back(std::move(a));
  return {g, slot, false};
}

void GradientBuckets::reduce_after(size_t v) {
  if (visit_at(v).kind != VisitKind::Backward) return;
  const int micro = visit_at(v).micro_batch;
  const bool last_micro = micro == plan_.visits.back().micro_batch;
  for (const int g : layout_.used_by(visit_at(v).unit)) {
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
  if (end_of_micro || bucket_elements_ >= std::min(kCoalesceElements, plan_.limits.reduce_bucket)) flush_reductions(micro > 0, last_micro);
}

void GradientBuckets::flush_reductions(bool accumulate, bool last_micro) {
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
  for (const int g : bucket_)
    if (const int ring = nth(plan_.gradient_ring_of, g); ring >= 0) {
      nth(reducing_, ring).push_back(nth(slot_of_, g));
      nth(slot_of_, g) = -1;
    }
  bucket_.clear();
  bucket_elements_ = 0;
}

}  // namespace zerostep
