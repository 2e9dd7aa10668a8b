#include <algorithm>
#include <utility>

#include "base/nth.h"
#include "runtime/plan/buckets.h"
#include "runtime/plan/gradient_buckets.h"
#include "runtime/plan/parameter_coordinator.h"

namespace zerostep {
namespace {

class Planner {
 public:
  // The plan has its visits and options, and is filled in.
  Planner(const ModelLayout& layout, Plan& plan) : layout_(layout), plan_(plan), parameters_(layout, plan), gradients_(layout, plan) {}

  void run() {
    for (const Visit& at : plan_.visits) plan_.copies_bytes = std::max(plan_.copies_bytes, at.weight_copies * copy_bytes(layout_, at.unit));
    find_limits();
    parameters_.make_rings();
    gradients_.make_rings();
    plan_.actions.push_back({.kind = ActionKind::Begin});
    for (size_t v = 0; v < plan_.visits.size(); ++v) {
      parameters_.gather_for(v);
      parameters_.prefetch_after(v);
      visit(v, gradients_.gather_for(v));
      move_checkpoints_after(v);
      parameters_.release_after(v);
      gradients_.reduce_after(v);
    }
    parameters_.release_all();
    if (plan_.options.update) {
      plan_.agreement = static_cast<int>(plan_.actions.size());
      plan_.actions.push_back(agree_action(plan_.options, plan_.options.agreement, plan_.options.summed_scalars + kMaximumScalars));
      update();
    }
    plan_.actions.push_back({.kind = ActionKind::End});
    plan_.message_bytes = message_bytes(layout_, plan_);
    plan_.rank_values_bytes = rank_values_bytes(layout_, plan_);
    list_buffers(layout_, plan_);
    order_actions(layout_, plan_);
    add_elements(plan_);
  }

 private:
  const FlatGroup& group(int g) const { return layout_.group(g); }
  const Visit& visit_at(size_t v) const { return plan_.visits[v]; }
  int ranks() const { return layout_.options.shard_ranks; }
  // Of a group, by one rank.
  int64_t updated_elements(const FlatGroup& g) const { return updates_whole(plan_.options) ? g.full_elements() : g.shard_elements(); }

  void find_limits() {
    const PlanOptions& o = plan_.options;
    const int64_t largest_visit = parameters_.largest_visit();
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

  void visit(size_t v, std::vector<GroupSlot> summed_gradients) {
    Action a{.kind = ActionKind::Visit};
    a.visit = static_cast<int>(v);
    if (reads_parameters(layout_, visit_at(v)))
      for (int g : layout_.used_by(visit_at(v).unit)) a.parameters.push_back({g, parameters_.slot_of(g)});
    a.summed_gradients = std::move(summed_gradients);
    if (visit_at(v).kind == VisitKind::Backward)
      for (int g : layout_.used_by(visit_at(v).unit))
        if (group(g).trainable) a.gradients.push_back(gradients_.use_gradient(g, visit_at(v).micro_batch > 0));
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

  void update() {
    update_matrices();
    // Groups that stay whole are gathered again as soon as their parts are updated; types do not mix in one collective.
    std::vector<int> bucket;
    int64_t elements = 0;
    const auto flush = [&] {
      for (auto& parts : split_by_bucket(layout_, bucket, plan_.limits.allgather_bucket)) {
        Action a{.kind = ActionKind::GatherUpdated};
        for (const CollectivePart& part : parts) a.elements_gathered += counted_gather(elements_of_part(layout_, part), ranks());
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

  const ModelLayout& layout_;
  Plan& plan_;
  ParameterCoordinator parameters_;
  GradientBuckets gradients_;
  int stored_ = -1;  // unit whose input is being stored; -1: none
};

}  // namespace

bool all_reduces_gradients(const PlanOptions& options) {
  return (updates_whole(options) && keeps_gradients_whole(options)) ||
         (!options.reduce_scatter && options.stage <= 2 && !is_16bit(options.communication_type));
}

int64_t counted_gather(int64_t full, int ranks) { return full / ranks * (ranks - 1); }

Plan make_plan(const ModelLayout& layout, std::vector<Visit> visits, const PlanOptions& options) {
  Plan plan;
  plan.options = options;
  plan.visits = std::move(visits);
  plan.has_backward = std::any_of(plan.visits.begin(), plan.visits.end(), [](const Visit& v) { return v.kind == VisitKind::Backward; });
  Planner(layout, plan).run();
  return plan;
}

}  // namespace zerostep
