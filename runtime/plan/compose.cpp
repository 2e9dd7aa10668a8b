#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "runtime/plan/plan.h"

// The list of a whole step, made of the lists of its parts, and where its own update and that of the step before stand in it.

namespace zerostep {
namespace {

// Updates that go together: of a group, or of groups that are gathered together when they are updated.
struct UpdateBundle {
  std::set<int> groups;
  std::vector<Action> actions;
  // Indices in the list that they are put into.
  std::ptrdiff_t first_use = 0;    // of the first action that touches one of the groups
  std::ptrdiff_t first_visit = 0;  // of the first one that is no gather; at most that of the bundle behind
  std::ptrdiff_t last_place = 0;   // of the action that updates stand before at the latest
};

std::vector<UpdateBundle> bundles_of(const Plan& updates) {
  const auto first = updates.actions.begin() + updates.agreement + 1;
  std::set<int> gathered;
  for (auto a = first; a != updates.actions.end(); ++a)
    for (const CollectivePart& part : a->parts) gathered.insert(part.group);
  std::vector<UpdateBundle> out;
  UpdateBundle together;  // under way
  for (auto a = first; a != updates.actions.end(); ++a) {
    if (a->kind != ActionKind::Update && a->kind != ActionKind::GatherUpdated) continue;
    const bool alone = a->kind == ActionKind::Update && !gathered.contains(a->group);
    if (!together.actions.empty() && together.actions.back().kind == ActionKind::GatherUpdated && !alone && a->kind == ActionKind::Update)
      out.push_back(std::exchange(together, {}));
    if (alone && (out.empty() || out.back().groups != std::set{a->group})) out.push_back({.groups = {a->group}, .actions = {}});
    UpdateBundle& bundle = alone ? out.back() : together;
    if (a->kind == ActionKind::Update) bundle.groups.insert(a->group);
    bundle.actions.push_back(*a);
  }
  if (!together.actions.empty()) out.push_back(std::move(together));
  return out;
}

bool touches(const Action& action, const std::set<int>& groups) {
  return std::any_of(action.uses.begin(), action.uses.end(), [&](const BufferUse& use) {
    const BufferKind kind = use.buffer.kind;
    const bool is_whole_group = kind == BufferKind::Parameters || kind == BufferKind::Gradients;
    return groups.contains(is_whole_group ? use.buffer.index : use.group);
  });
}

// The first place of a list between `begin` and `end` where an action can stand: behind what uses its staging slots for something else.
std::ptrdiff_t free_from(const std::vector<Action>& list, const Action& action, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const auto uses = [](const Action& a, const Buffer& slot) {
    return std::any_of(a.uses.begin(), a.uses.end(), [&](const BufferUse& use) { return use.buffer == slot; });
  };
  for (const BufferUse& use : action.uses)
    for (std::ptrdiff_t i = end; use.buffer.kind == BufferKind::StagingSlot && i > begin; --i)
      if (uses(nth(list, i - 1), use.buffer)) begin = i;
  return begin;
}

// `others` with before[i] before each others[i], and the last ones behind all.
void merge(const std::vector<Action>& others, std::vector<std::vector<Action>> before, std::vector<Action>& out) {
  out.clear();
  for (size_t i = 0; i <= others.size(); ++i) {
    std::move(before[i].begin(), before[i].end(), std::back_inserter(out));
    if (i < others.size()) out.push_back(others[i]);
  }
}

bool is_updated_in_slot(const ModelLayout& layout, const Plan& plan, const UpdateBundle& bundle, const std::vector<Action>& list) {
  if (bundle.groups.size() != 1 || bundle.first_use >= std::ssize(list)) return false;
  const Action& first = nth(list, bundle.first_use);
  return first.kind == ActionKind::Gather && updates_in_slot(layout.group(*bundle.groups.begin()), plan);
}

// Puts the updates of another step before what touches their groups, in the order of the visits that need them, and all before the first
// agreement: units gathered far ahead of their visits do not keep the first visits waiting. Of what one visit needs, groups that stay whole
// come first: they are small. Updates of the host's lane stand as early as the slots of what rests in files are free: the lane works on
// them while earlier units are visited. What a GPU updates and rests elsewhere is updated in the slot of its first gather.
void insert_pending_updates(const ModelLayout& layout, const StepSpec& spec, Plan& plan) {
  std::vector<UpdateBundle> bundles = bundles_of(spec.updates);
  find_uses(layout, plan);
  std::vector<Action> others = std::exchange(plan.actions, {});
  for (UpdateBundle& bundle : bundles) {
    for (Action& a : bundle.actions) a.reads_gradient = spec.pending_reads_gradient && a.kind == ActionKind::Update;
    const auto is_use = [&](const Action& a) { return a.kind == ActionKind::Agree || touches(a, bundle.groups); };
    const auto first = std::find_if(others.begin() + 1, others.end(), is_use);
    bundle.first_use = first - others.begin();
    bundle.first_visit =
        std::find_if(first, others.end(), [&](const Action& a) { return a.kind != ActionKind::Gather && is_use(a); }) - others.begin();
    plan.actions = std::move(bundle.actions);
    find_uses(layout, plan);
    bundle.actions = std::move(plan.actions);
  }
  const auto place = [](const UpdateBundle& b) { return std::tuple(b.first_visit, b.first_use < b.first_visit, b.first_use); };
  std::stable_sort(bundles.begin(), bundles.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
  // The lane takes them in this order, each before its own use and before the uses of those behind it.
  std::ptrdiff_t last_place = std::ssize(others);
  for (auto bundle = bundles.rbegin(); bundle != bundles.rend(); ++bundle)
    bundle->last_place = last_place = std::min(last_place, bundle->first_use);

  std::vector<std::vector<Action>> before(others.size() + 1);
  std::ptrdiff_t earliest = 1, former_use = 1;  // of the lane's next update; of the bundle before
  for (UpdateBundle& bundle : bundles) {
    if (is_updated_in_slot(layout, plan, bundle, others)) {
      Action& gather = nth(others, bundle.first_use);
      const auto of_shard = [&](ActionKind kind) { return Action{.kind = kind, .group = gather.group, .slot = gather.slot}; };
      nth(before, bundle.first_use).push_back(of_shard(ActionKind::BringShard));
      for (Action& a : bundle.actions) {
        a.slot = gather.slot;
        nth(before, bundle.first_use).push_back(std::move(a));
      }
      gather.has_shard = true;
      nth(before, bundle.first_use + 1).push_back(of_shard(ActionKind::ReturnShard));
      former_use = bundle.first_use;
      continue;
    }
    std::ptrdiff_t updated = 1;  // where the bundle's updates stand
    for (Action& a : bundle.actions) {
      std::ptrdiff_t at = bundle.first_use;
      if (a.lane == Lane::HostCompute) {
        at = earliest = free_from(others, a, earliest, bundle.last_place);
      } else if (a.kind == ActionKind::GatherUpdated && plan.options.overlap) {
        at = std::min(bundle.first_use, std::max(updated, former_use));
      }
      if (a.kind == ActionKind::Update) updated = std::max(updated, at);
      nth(before, at).push_back(std::move(a));
    }
    former_use = bundle.first_use;
  }
  merge(others, std::move(before), plan.actions);
}

// Puts a step's own updates into its backward: those that the host makes of what rests elsewhere, each behind the last action that touches
// its group, and behind the last reduction, whose stream they share and which must not wait for the host, the gathers of parameters of
// which all are updated by then. What else there is of updates stays for behind the agreement, and is returned.
std::vector<Action> insert_own_updates(const ModelLayout& layout, const Plan& updates, Plan& plan) {
  find_uses(layout, plan);
  const std::vector<Action> others = std::exchange(plan.actions, {});
  std::vector<std::vector<Action>> before(others.size() + 1);
  std::vector<Action> left;
  std::set<int> left_groups;
  const auto is_left = [&](const CollectivePart& part) { return left_groups.contains(part.group); };
  for (int i = updates.agreement + 1; i + 1 < std::ssize(updates.actions); ++i) {
    const Action& a = updates.action(i);
    const bool is_update = a.kind == ActionKind::Update;
    if (is_update && a.lane != Lane::HostCompute) left_groups.insert(a.group);
    if (left_groups.contains(a.group) || std::any_of(a.parts.begin(), a.parts.end(), is_left)) {
      left.push_back(a);
      continue;
    }
    const auto last = std::find_if(others.rbegin(), others.rend(), [&](const Action& other) { return touches(other, {a.group}); });
    nth(before, is_update ? others.rend() - last : std::ssize(others)).push_back(a);
    plan.updates_in_backward = true;
  }
  merge(others, std::move(before), plan.actions);
  return left;
}

}  // namespace

Action agree_action(const PlanOptions& options, Agreement what, int64_t scalars) {
  Action a{.kind = ActionKind::Agree};
  a.agreement = what;
  a.elements_reduced = (options.world - 1) * scalars;
  return a;
}

void add_elements(Plan& plan) {
  for (const Action& a : plan.actions) {
    plan.elements_gathered += a.elements_gathered;
    plan.elements_reduced += a.elements_reduced;
  }
}

Plan compose(const ModelLayout& layout, const StepSpec& spec) {
  const auto& [backprop, queries, updates, instruction, estimate, applies_pending, defers_update, pending_reads_gradient,
               updates_in_backward] = spec;
  Plan out = updates;
  out.visits.clear();
  out.actions.clear();
  out.elements_gathered = out.elements_reduced = 0;
  out.applies_pending = applies_pending || (backprop == nullptr && queries == nullptr);
  out.defers_update = defers_update;
  if (updates_in_backward && queries != nullptr) fail_protocol("[plan] updates in the backward of a step that makes queries");
  const auto add = [&](const Plan& part, int begin, int end) {
    const int first = static_cast<int>(out.visits.size());
    for (int i = begin; i < end; ++i) {
      Action& a = out.actions.emplace_back(part.action(i));
      if (a.visit >= 0) a.visit += first;
    }
  };
  std::vector<Action> late;  // own updates that do not stand in the backward
  out.actions.push_back({.kind = ActionKind::Begin});
  for (const Plan* part : {backprop, queries}) {
    if (part == nullptr) continue;
    if (part == queries && instruction > 0) out.actions.push_back(agree_action(out.options, Agreement::Instruction, instruction));
    add(*part, 1, part->agreement);
    if (updates_in_backward) late = insert_own_updates(layout, updates, out);
    add(*part, part->agreement, part->agreement + 1);
    out.visits.insert(out.visits.end(), part->visits.begin(), part->visits.end());
  }
  if (queries != nullptr) out.actions.push_back(agree_action(out.options, Agreement::Estimate, estimate));
  if (applies_pending) insert_pending_updates(layout, spec, out);
  const int end = static_cast<int>(updates.actions.size());
  std::move(late.begin(), late.end(), std::back_inserter(out.actions));
  add(updates, defers_update || updates_in_backward ? end - 1 : updates.agreement + 1, end);
  if (backprop == nullptr && queries == nullptr)
    for (Action& a : out.actions) a.reads_gradient |= pending_reads_gradient && a.kind == ActionKind::Update;
  add_loads_and_stores(layout, out);
  out.agreement = -1;
  for (int i = 0; i < std::ssize(out.actions); ++i)
    if (out.action(i).kind == ActionKind::Agree) out.agreement = i;
  order_actions(layout, out);
  add_elements(out);
  return out;
}

}  // namespace zerostep
