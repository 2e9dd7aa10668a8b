#include "runtime/plan/plan_hash.h"

#include <bit>
#include <type_traits>

#include "base/content_hash.h"

namespace zerostep {
namespace {

class PlanHash {
 public:
  std::string of(const Plan& plan) {
    for (const Visit& visit : plan.visits) add_visit(visit);
    for (const Action& action : plan.actions) add_action(action);
    for (const PlannedBuffer& buffer : plan.buffers) add_planned(buffer);
    for (const StagingRing& ring : plan.staging_rings) add(ring.kind, ring.slot_bytes, ring.num_slots);
    add(plan.agreement, plan.applies_pending, plan.defers_update, plan.updates_in_backward, plan.copies_bytes, plan.message_bytes);
    return hash_.hex();
  }

 private:
  template <typename... Numbers>
  void add(Numbers... numbers) {
    const auto add_one = [&](auto number) {
      if constexpr (std::is_same_v<decltype(number), double>)
        hash_.add(std::bit_cast<uint64_t>(number));
      else
        hash_.add(static_cast<uint64_t>(number));
    };
    (add_one(numbers), ...);
  }
  // The bounds of lists count too.
  template <typename T, typename Add>
  void add_all(const std::vector<T>& list, Add&& add_one) {
    add(list.size());
    for (const T& one : list) add_one(one);
  }
  void add_buffer(const Buffer& buffer) { add(buffer.kind, buffer.index, buffer.chunk); }

  void add_visit(const Visit& v) {
    add(v.unit, v.kind, v.micro_batch, v.branches, v.keep_input, v.pass, v.micro_batches, v.token_batches);
    add(v.branches_together, v.perturbation_bytes, v.tiled, v.tile_bytes, v.probes, v.reads_gradient, v.weight_copies, v.copied_branches);
  }
  void add_action(const Action& a) {
    add(a.kind, a.lane, a.visit, a.group, a.slot, a.accumulate, a.final_reduction, a.begin, a.end, a.round, a.wave, a.reads_gradient);
    add(a.agreement, a.elements_gathered, a.elements_reduced, a.bytes, a.flops);
    add_buffer(a.chunk);
    add_all(a.parts, [&](const CollectivePart& part) { add(part.group, part.slice_begin, part.slice_end, part.slot); });
    for (const auto* slots : {&a.parameters, &a.summed_gradients}) add_all(*slots, [&](const GroupSlot& one) { add(one.group, one.slot); });
    add_all(a.gradients, [&](const GradientUse& use) { add(use.group, use.slot, use.fresh); });
    add_all(a.uses, [&](const BufferUse& use) {
      add_buffer(use.buffer);
      add(use.reads, use.writes, use.group, use.chunk, use.is_last);
    });
    add_all(a.waits, [&](int action) { add(action); });
  }
  void add_planned(const PlannedBuffer& b) {
    add_buffer(b.id);
    add(b.bytes, b.num_chunks, b.chunk_bytes, b.communicated, b.tier, b.staging_ring, b.first_slot);
  }

  ContentHash hash_;
};

}  // namespace

std::string plan_hash(const Plan& plan) { return PlanHash().of(plan); }

}  // namespace zerostep
