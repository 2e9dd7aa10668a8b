#include <algorithm>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/plan/plan.h"

namespace zerostep {
namespace {

// Collectives smaller than this cost latency, not bandwidth: small units are reduced and gathered together up to it, within the bucket
// limits.
constexpr int64_t kCoalesceElements = int64_t{1} << 20;

// Groups of similar size share a ring, so that the large embedding does not set the size of all slots.
std::vector<int> ring_classes(const std::vector<int64_t>& bytes, const std::vector<bool>& wanted, std::vector<RingPlan>& rings,
                              const char* what, const std::vector<FlatGroup>& groups) {
  std::vector<int> order, ring_of(bytes.size(), -1);
  for (size_t g = 0; g < bytes.size(); ++g)
    if (wanted[g]) order.push_back(static_cast<int>(g));
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return nth(bytes, a) > nth(bytes, b); });
  for (int g : order) {
    const int64_t size = nth(bytes, g);
    if (rings.empty() || size < rings.back().slot_bytes - rings.back().slot_bytes / 8)
      rings.push_back({std::string(what) + " like " + nth(groups, g).name, size, 0, {}});
    rings.back().groups.push_back(g);
    nth(ring_of, g) = static_cast<int>(rings.size()) - 1;
  }
  return ring_of;
}

class Planner {
 public:
  Planner(const ModelLayout& layout, std::vector<Visit> visits, const PlanOptions& options) : layout_(layout) {
    plan_.options = options;
    plan_.visits = std::move(visits);
  }

  Plan run() {
    find_needs();
    find_limits();
    make_rings();
    plan_.actions.push_back({.kind = ActionKind::Begin});
    for (size_t v = 0; v < plan_.visits.size(); ++v) {
      gather_for(v);
      prefetch_after(v);
      gather_gradients(v);
      visit(v);
      move_checkpoints_after(v);
      release_after(v);
      reduce_after(v);
    }
    while (!live_order_.empty()) release(live_order_.front());
    if (plan_.options.update) {
      agree();
      update();
    }
    plan_.actions.push_back({.kind = ActionKind::End});
    plan_.message_bytes = message_bytes(layout_, plan_);
    list_buffers(layout_, plan_);
    order_actions(layout_, plan_);
    add_elements(plan_);
    return std::move(plan_);
  }

 private:
  const FlatGroup& group(int g) const { return layout_.group(g); }
  const Visit& visit_at(size_t v) const { return plan_.visits[v]; }
  int ranks() const { return layout_.options.shard_ranks; }
  // Of a group, by one rank.
  int64_t updated_elements(const FlatGroup& g) const { return updates_whole(plan_.options) ? g.full_elements() : g.shard_elements(); }

  void find_needs() {
    const size_t n = plan_.visits.size();
    needs_.resize(n);
    uses_.resize(layout_.groups.size());
    gradient_touches_.resize(layout_.groups.size());
    for (size_t v = 0; v < n; ++v) {
      const Visit& at = visit_at(v);
      const std::vector<int> used = layout_.used_by(at.unit);
      if (reads_parameters(layout_, at))
        for (int g : used)
          if (!keeps_parameters_whole(group(g), plan_.options)) {
            needs_[v].push_back(g);
            nth(uses_, g).push_back(v);
          }
      plan_.has_backward |= at.kind == VisitKind::Backward;
      plan_.copies_bytes = std::max(plan_.copies_bytes, at.weight_copies * copy_bytes(layout_, at.unit));
      if (at.kind == VisitKind::Backward || at.reads_gradient)
        for (int g : used)
          if (group(g).trainable) nth(gradient_touches_, g).push_back(v);
    }
    needed_before_.assign(n + 1, 0);
    for (size_t v = 0; v < n; ++v) needed_before_[v + 1] = needed_before_[v] + elements_of(needs_[v]);
  }

  int64_t elements_of(const std::vector<int>& groups) const {
    return std::accumulate(groups.begin(), groups.end(), int64_t{0}, [&](int64_t sum, int g) { return sum + group(g).full_elements(); });
  }

  void find_limits() {
    const PlanOptions& o = plan_.options;
    int64_t largest_visit = 0;
    for (const auto& needed : needs_) largest_visit = std::max(largest_visit, elements_of(needed));
    EffectiveLimits& limits = plan_.limits;
    limits.max_live_parameters = std::max(o.max_live_parameters, largest_visit);
    limits.max_reuse_distance = o.max_reuse_distance;
    // Without a stream of its own a prefetch only holds memory longer.
    limits.prefetch_bucket = o.overlap && o.prefetch_bucket > 0 ? std::max(o.prefetch_bucket, largest_visit) : 0;
    // A collective moves one slice or more, and the optimizer updates a group in at most kMostParts ranges.
    int64_t largest_slice = 0, largest_part = 0;
    for (const FlatGroup& g : layout_.groups) {
      if (!g.trainable) continue;
      largest_part = std::max(largest_part, updated_elements(g));
      for (const FlatLayout::Slice& slice : g.layout.slices()) largest_slice = std::max(largest_slice, slice.per_rank * ranks());
    }
    limits.reduce_bucket = std::max(o.reduce_bucket, largest_slice);
    limits.allgather_bucket = std::max(o.allgather_bucket, largest_slice);
    limits.sub_group = std::max(o.sub_group, smallest_part(largest_part));
  }

  void make_rings() {
    std::vector<int64_t> parameter_bytes, gradient_bytes;
    std::vector<bool> parameter_slots, gradient_slots;
    for (const FlatGroup& g : layout_.groups) {
      parameter_bytes.push_back(num_bytes(g.full_elements(), g.type));
      gradient_bytes.push_back(num_bytes(g.full_elements(), DType::F32));
      parameter_slots.push_back(!keeps_parameters_whole(g, plan_.options) && !nth(uses_, g.id).empty());
      gradient_slots.push_back(g.trainable && !keeps_gradients_whole(plan_.options) && !nth(gradient_touches_, g.id).empty());
    }
    plan_.parameter_ring_of = ring_classes(parameter_bytes, parameter_slots, plan_.parameter_rings, "parameters", layout_.groups);
    plan_.gradient_ring_of = ring_classes(gradient_bytes, gradient_slots, plan_.gradient_rings, "gradients", layout_.groups);
    free_slots_.resize(plan_.parameter_rings.size());
    gradient_rings_.resize(plan_.gradient_rings.size());
    slot_of_.assign(layout_.groups.size(), -1);
    gradient_slot_of_.assign(layout_.groups.size(), -1);
    gathered_unused_.assign(layout_.groups.size(), false);
    whole_gradient_written_.assign(layout_.groups.size(), false);
  }

  // Index of the first use of a group at or after a visit; nullopt: none in this step.
  std::optional<size_t> next_use(int g, size_t v) const {
    const auto& uses = nth(uses_, g);
    const auto it = std::lower_bound(uses.begin(), uses.end(), v);
    if (it == uses.end()) return std::nullopt;
    return *it;
  }

  void release(int g) {
    nth(free_slots_, nth(plan_.parameter_ring_of, g)).push_back(nth(slot_of_, g));
    Action a{.kind = ActionKind::Release};
    a.group = g;
    a.slot = nth(slot_of_, g);
    plan_.actions.push_back(std::move(a));
    nth(slot_of_, g) = -1;
    live_elements_ -= group(g).full_elements();
    std::erase(live_order_, g);
  }

  // Evicts the groups whose next use is farthest, later than `needed_at`, until `elements` more fit. False (and nothing done) when they
  // cannot.
  bool make_room(int64_t elements, size_t now, size_t needed_at) {
    std::vector<std::pair<size_t, int>> candidates;
    for (int g : live_order_) {
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

  void gather(int g) {
    const size_t ring = static_cast<size_t>(nth(plan_.parameter_ring_of, g));
    auto& free = free_slots_[ring];
    int slot;
    if (free.empty()) {
      slot = plan_.parameter_rings[ring].num_slots++;
    } else {
      slot = free.front();  // the one released longest ago
      free.erase(free.begin());
    }
    nth(slot_of_, g) = slot;
    nth(gathered_unused_, g) = true;
    live_elements_ += group(g).full_elements();
    live_order_.push_back(g);
    Action a{.kind = ActionKind::Gather};
    a.group = g;
    a.slot = slot;
    a.elements_gathered = counted_gather(group(g).full_elements(), ranks());
    plan_.actions.push_back(std::move(a));
  }

  bool live(int g) const { return nth(slot_of_, g) >= 0; }

  void gather_for(size_t v) {
    int64_t missing = 0;
    for (int g : needs_[v]) missing += live(g) ? 0 : group(g).full_elements();
    if (missing > 0 && !make_room(missing, v, v))
      fail_protocol("[plan] no room for unit {} within {} live elements", visit_at(v).unit, plan_.limits.max_live_parameters);
    for (int g : needs_[v])
      if (!live(g)) gather(g);
  }

  void prefetch_after(size_t v) {
    if (plan_.limits.prefetch_bucket == 0) return;
    for (int g : needs_[v]) nth(gathered_unused_, g) = false;
    int64_t ahead = 0;
    for (int g : live_order_) ahead += nth(gathered_unused_, g) ? group(g).full_elements() : 0;
    for (size_t later = v + 1; later < plan_.visits.size(); ++later)
      for (int g : needs_[later]) {
        if (live(g)) continue;
        const int64_t size = group(g).full_elements();
        if (ahead + size > plan_.limits.prefetch_bucket || !make_room(size, v, later)) return;
        gather(g);
        ahead += size;
      }
  }

  // Stage 0 has summed gradients whole on every rank; elsewhere each rank has its part.
  void gather_gradients(size_t v) {
    summed_gradients_.clear();
    if (!visit_at(v).reads_gradient) return;
    std::vector<int> used(plan_.gradient_rings.size(), 0);
    for (int g : layout_.used_by(visit_at(v).unit)) {
      if (!group(g).trainable) continue;
      summed_gradients_.push_back({g, -1});
      if ((ranks() == 1 && keeps_gradients_whole(plan_.options)) || plan_.options.stage == 0) continue;
      const int ring = nth(plan_.gradient_ring_of, g);
      Action a{.kind = ActionKind::GatherGradient};
      a.group = g;
      if (ring >= 0) {
        a.slot = nth(used, ring)++;
        int& slots = nth(plan_.gradient_rings, ring).num_slots;
        slots = std::max(slots, a.slot + 1);
        summed_gradients_.back().slot = a.slot;
      }
      a.elements_gathered = counted_gather(group(g).full_elements(), ranks());
      plan_.actions.push_back(std::move(a));
    }
  }

  void visit(size_t v) {
    Action a{.kind = ActionKind::Visit};
    a.visit = static_cast<int>(v);
    if (reads_parameters(layout_, visit_at(v)))
      for (int g : layout_.used_by(visit_at(v).unit)) a.parameters.push_back({g, nth(slot_of_, g)});
    a.summed_gradients = summed_gradients_;
    if (visit_at(v).kind == VisitKind::Backward)
      for (int g : layout_.used_by(visit_at(v).unit))
        if (group(g).trainable) a.gradients.push_back(use_gradient(g, visit_at(v).micro_batch > 0));
    for (int g : needs_[v]) nth(gathered_unused_, g) = false;
    plan_.actions.push_back(std::move(a));
  }

  // An input is stored beside the visit after the one that keeps it, and dropped after that. It is loaded as soon as its slot is free: the
  // first ones when all are stored, each other when the backward that had its slot is done.
  void move_checkpoints_after(size_t v) {
    const PlanOptions& o = plan_.options;
    const Visit& at = visit_at(v);
    const auto add = [&](ActionKind kind, int unit, BufferKind what = BufferKind::Checkpoint) {
      Action a{.kind = kind};
      a.chunk = {what, unit};
      plan_.actions.push_back(std::move(a));
    };
    // The `count`-th before a unit, of those that rest in memory of the host.
    const auto load_before = [&](int unit, int count) {
      while (unit > 0 && count > 0)
        if (checkpoint_slot(o, --unit) >= 0) --count;
      if (count == 0) add(ActionKind::Load, unit);
    };
    if (stored_ >= 0) add(ActionKind::Drop, std::exchange(stored_, -1), BufferKind::Activation);
    if (checkpoint_slot(o, at.unit) < 0) return;
    if (at.kind == VisitKind::Backward) load_before(at.unit, checkpoint_slots(o));
    if (!at.keep_input) return;
    add(ActionKind::Store, stored_ = at.unit);
    const auto& bytes = o.host_checkpoints;
    const bool is_last = std::all_of(bytes.begin() + at.unit + 1, bytes.end(), [](int64_t n) { return n == 0; });
    for (int i = 0; is_last && i < checkpoint_slots(o); ++i) load_before(at.unit, i);
  }

  // Gradients of one rank are added up by the backward itself, whatever the tier: where they rest elsewhere, the sums of earlier
  // micro-batches come to the slot first.
  GradientUse use_gradient(int g, bool has_sums) {
    const size_t i = static_cast<size_t>(g);
    if (plan_.gradient_ring_of[i] < 0) {
      const bool fresh = !whole_gradient_written_[i];
      whole_gradient_written_[i] = true;
      return {g, -1, fresh};
    }
    if (gradient_slot_of_[i] >= 0) return {g, gradient_slot_of_[i], false};
    const size_t ring = static_cast<size_t>(plan_.gradient_ring_of[i]);
    GradientRing& slots = gradient_rings_[ring];
    RingPlan& plan = plan_.gradient_rings[ring];
    const int wanted = plan_.options.overlap && plan.groups.size() > 1 ? 2 : 1;
    int slot;
    if (plan.num_slots >= wanted && !slots.reducing.empty()) {
      slot = slots.reducing.front();  // the backward that writes it waits for its reduction
      slots.reducing.erase(slots.reducing.begin());
    } else {
      slot = plan.num_slots++;
    }
    gradient_slot_of_[i] = slot;
    if (ranks() > 1 || !has_sums) return {g, slot, true};
    Action a{.kind = ActionKind::GatherGradient};
    a.group = g;
    a.slot = slot;
    plan_.actions.push_back(std::move(a));
    return {g, slot, false};
  }

  void release_after(size_t v) {
    for (int g : needs_[v]) {
      const auto next = next_use(g, v + 1);
      const int64_t distance = next ? needed_before_[*next] - needed_before_[v + 1] : INT64_MAX;
      if (!next || distance > plan_.limits.max_reuse_distance) release(g);
    }
  }

  // Gradients are complete after the last backward of the micro-batch that touches them (of a tied weight: its owner's).
  void reduce_after(size_t v) {
    if (visit_at(v).kind != VisitKind::Backward) return;
    const int micro = visit_at(v).micro_batch;
    const bool last_micro = micro == plan_.visits.back().micro_batch;
    for (int g : layout_.used_by(visit_at(v).unit)) {
      const auto& touches = nth(gradient_touches_, g);
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

  void flush_reductions(bool accumulate, bool last_micro) {
    for (auto& parts : split_by_bucket(bucket_, plan_.limits.reduce_bucket)) {
      Action a{.kind = ActionKind::Reduce};
      const bool all_reduce = all_reduces_gradients(plan_.options);
      for (CollectivePart& part : parts) {
        part.slot = nth(gradient_slot_of_, part.group);
        const int64_t full = part_elements(part);
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
        nth(gradient_rings_, nth(plan_.gradient_ring_of, g)).reducing.push_back(nth(gradient_slot_of_, g));
        nth(gradient_slot_of_, g) = -1;
      }
    bucket_.clear();
    bucket_elements_ = 0;
  }

  int64_t part_elements(const CollectivePart& part) const { return elements_of_part(layout_, part); }

  // Collectives of at most `limit` elements each, but at least one slice.
  std::vector<std::vector<CollectivePart>> split_by_bucket(const std::vector<int>& groups, int64_t limit) const {
    std::vector<std::vector<CollectivePart>> out;
    int64_t filled = 0;
    for (int g : groups)
      for (int s = 0; s < static_cast<int>(group(g).layout.slices().size()); ++s) {
        const int64_t size = part_elements({g, s, s + 1});
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

  void agree() {
    plan_.agreement = static_cast<int>(plan_.actions.size());
    plan_.actions.push_back(agree_action(plan_.options, plan_.options.agreement, plan_.options.summed_scalars + kMaximumScalars));
  }

  void update() {
    update_matrices();
    // Groups that stay whole are gathered again as soon as their parts are updated; types do not mix in one collective.
    std::vector<int> bucket;
    int64_t elements = 0;
    const auto flush = [&] {
      for (auto& parts : split_by_bucket(bucket, plan_.limits.allgather_bucket)) {
        Action a{.kind = ActionKind::GatherUpdated};
        for (const CollectivePart& part : parts) a.elements_gathered += counted_gather(part_elements(part), ranks());
        a.parts = std::move(parts);
        plan_.actions.push_back(std::move(a));
      }
      bucket.clear();
      elements = 0;
    };
    for (const FlatGroup& g : layout_.groups) {
      if (!g.trainable) continue;
      const int64_t part = updated_elements(g);
      const bool is_gathered = keeps_parameters_whole(g, plan_.options) && !updates_whole(plan_.options) && ranks() > 1;
      if (is_gathered && !bucket.empty() && group(bucket.back()).type != g.type) flush();
      for (int64_t begin = 0; begin < part && !g.assigned; begin += std::min(plan_.limits.sub_group, part)) {
        Action a{.kind = ActionKind::Update};
        a.group = g.id;
        a.reads_gradient = plan_.options.gradient_in_update;
        a.begin = begin;
        a.end = std::min(part, begin + std::min(plan_.limits.sub_group, part));
        plan_.actions.push_back(std::move(a));
      }
      if (!is_gathered) continue;
      bucket.push_back(g.id);
      elements += g.full_elements();
      if (elements >= std::min(kCoalesceElements, plan_.limits.allgather_bucket)) flush();
    }
    flush();
  }

  // Round by round: reduced gradients go to the owners, where they are in shards, and updates come back wave by wave.
  void update_matrices() {
    plan_.matrices = assign_matrices(layout_, plan_.options);
    const auto add = [&](ActionKind kind, int round, int wave) -> Action& {
      Action& a = plan_.actions.emplace_back(Action{.kind = kind});
      a.round = round;
      a.wave = wave;
      for (const int index : plan_.matrices.parameters_in(round, wave)) {
        const AssignedParameter& p = nth(plan_.matrices.parameters, index);
        if (kind == ActionKind::GatherMatrices && p.owner == 0) a.elements_gathered += p.num_elements() - p.held;
        if (kind == ActionKind::ScatterMatrixUpdates && p.owner != 0) a.elements_gathered += p.held;
      }
      return a;
    };
    for (int round = 0; round < std::ssize(plan_.matrices.rounds); ++round) {
      if (plan_.options.gradient_in_update && !updates_whole(plan_.options)) add(ActionKind::GatherMatrices, round, -1);
      add(ActionKind::MakeMatrixUpdates, round, -1).reads_gradient = plan_.options.gradient_in_update;
      for (int wave = 0; wave < std::ssize(nth(plan_.matrices.rounds, round).waves); ++wave) {
        if (ranks() > 1) add(ActionKind::ScatterMatrixUpdates, round, wave);
        add(ActionKind::ApplyMatrixUpdates, round, wave);
      }
    }
  }

  struct GradientRing {
    std::vector<int> reducing;  // slots whose reduction is under way or done, oldest first
  };

  const ModelLayout& layout_;
  Plan plan_;
  std::vector<std::vector<int>> needs_;                // per visit: slotted groups it reads
  std::vector<std::vector<size_t>> uses_;              // per group: visits that read it
  std::vector<std::vector<size_t>> gradient_touches_;  // per group: visits that write its gradient, or read it reduced
  std::vector<int64_t> needed_before_;
  std::vector<std::vector<int>> free_slots_;  // per parameter ring
  std::vector<GradientRing> gradient_rings_;
  std::vector<int> slot_of_, gradient_slot_of_;
  std::vector<bool> gathered_unused_, whole_gradient_written_;
  std::vector<int> live_order_;
  int64_t live_elements_ = 0;
  int stored_ = -1;                          // unit whose input is being stored; -1: none
  std::vector<GroupSlot> summed_gradients_;  // of the next visit
  std::vector<int> bucket_;
  int64_t bucket_elements_ = 0;
};

}  // namespace

bool all_reduces_gradients(const PlanOptions& options) {
  return (updates_whole(options) && keeps_gradients_whole(options)) ||
         (!options.reduce_scatter && options.stage <= 2 && !is_16bit(options.communication_type));
}

int64_t counted_gather(int64_t full, int ranks) { return full / ranks * (ranks - 1); }

Plan make_plan(const ModelLayout& layout, std::vector<Visit> visits, const PlanOptions& options) {
  return Planner(layout, std::move(visits), options).run();
}

}  // namespace zerostep
