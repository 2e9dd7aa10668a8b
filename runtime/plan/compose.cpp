#include <algorithm>
#include <set>
#include <utility>

#include "base/nth.h"
#include "runtime/plan/plan.h"

// The list of a whole step, made of the lists of its parts, and where the update of the step before stands in it.

namespace zerostep {
namespace {

// Updates that go together: of a group, or of groups that are gathered together when they are updated.
struct UpdateBundle {
  std::set<int> groups;
  std::vector<Action> actions;
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
    if (alone && (out.empty() || out.back().groups != std::set{a->group})) out.push_back({{a->group}, {}});
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

// Puts the updates of another step before what touches their groups, and all before the first agreement.
void insert_pending_updates(const ModelLayout& layout, const StepSpec& spec, Plan& plan) {
  find_uses(layout, plan);
  std::vector<std::vector<UpdateBundle>> before(plan.actions.size() + 1);
  for (UpdateBundle& bundle : bundles_of(spec.updates)) {
    const auto at = std::find_if(plan.actions.begin() + 1, plan.actions.end(),
                                 [&](const Action& a) { return a.kind == ActionKind::Agree || touches(a, bundle.groups); });
    nth(before, at - plan.actions.begin()).push_back(std::move(bundle));
  }
  std::vector<Action> actions;
  for (size_t i = 0; i <= plan.actions.size(); ++i) {
    for (UpdateBundle& bundle : before[i])
      for (Action& a : bundle.actions) {
        a.reads_gradient = spec.pending_reads_gradient && a.kind == ActionKind::Update;
        actions.push_back(std::move(a));
      }
    if (i < plan.actions.size()) actions.push_back(std::move(plan.actions[i]));
  }
  plan.actions = std::move(actions);
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
  const auto& [backprop, queries, updates, instruction, estimate, applies_pending, defers_update, pending_reads_gradient] = spec;
  Plan out = updates;
  out.visits.clear();
  out.actions.clear();
  out.elements_gathered = out.elements_reduced = 0;
  out.applies_pending = applies_pending || (backprop == nullptr && queries == nullptr);
  out.defers_update = defers_update;
  const auto add = [&](const Plan& part, int begin, int end) {
    const int first = static_cast<int>(out.visits.size());
    for (int i = begin; i < end; ++i) {
      Action& a = out.actions.emplace_back(part.action(i));
      if (a.visit >= 0) a.visit += first;
    }
  };
  out.actions.push_back({.kind = ActionKind::Begin});
  for (const Plan* part : {backprop, queries}) {
    if (part == nullptr) continue;
    if (part == queries && instruction > 0) out.actions.push_back(agree_action(out.options, Agreement::Instruction, instruction));
    add(*part, 1, part->agreement + 1);
    out.visits.insert(out.visits.end(), part->visits.begin(), part->visits.end());
  }
  if (queries != nullptr) out.actions.push_back(agree_action(out.options, Agreement::Estimate, estimate));
  if (applies_pending) insert_pending_updates(layout, spec, out);
  const int end = static_cast<int>(updates.actions.size());
  add(updates, defers_update ? end - 1 : updates.agreement + 1, end);
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
