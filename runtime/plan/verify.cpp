#include "runtime/plan/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>

#include "base/nth.h"

namespace zerostep {
namespace {

std::string text_of(const ModelLayout& layout, const Plan& plan, const Buffer& buffer) {
  switch (buffer.kind) {
    case BufferKind::ParameterSlot:
      return fmt::format("slot {} of {}", buffer.chunk, nth(plan.parameter_rings, buffer.index).name);
    case BufferKind::GradientSlot:
      return fmt::format("slot {} of {}", buffer.chunk, nth(plan.gradient_rings, buffer.index).name);
    case BufferKind::StagingSlot:
      return fmt::format("slot {} of {}", buffer.chunk, nth(plan.staging_rings, buffer.index).name);
    case BufferKind::Parameters:
    case BufferKind::Gradients:
    case BufferKind::SquaredNorm:
    case BufferKind::UpdateState:
      return fmt::format("the {} of {}", name_of(buffer.kind), layout.group(buffer.index).name);
    case BufferKind::CheckpointSlot:
      return fmt::format("slot {} of checkpoints", buffer.chunk);
    case BufferKind::Activation:
    case BufferKind::Checkpoint:
      return fmt::format("the {} of {}", name_of(buffer.kind), layout.unit(buffer.index).name);
    default:
      return fmt::format("the {}", name_of(buffer.kind));
  }
}

// Whether a buffer has contents before the first action of a step. A pending update reads the gradients of the step before.
bool outlives_steps(BufferKind kind, const Plan& plan) {
  return (kind == BufferKind::Gradients && plan.applies_pending) || kind == BufferKind::Parameters || kind == BufferKind::UpdateState ||
         kind == BufferKind::MatrixState || kind == BufferKind::Scalars || kind == BufferKind::Communicator;
}

// At its last action, and where the ranks agree: the rest of a step that is skipped is left out.
bool may_end_at(const Plan& plan, size_t action) {
  return action + 1 == plan.actions.size() || plan.actions[action].kind == ActionKind::Agree;
}

class Verifier {
 public:
  Verifier(const ModelLayout& layout, size_t most, PlanProof& proof) : layout_(layout), most_(most), proof_(proof) {}

  // The first `end` actions of a plan, after those that came before.
  void run(const NamedPlan& plan, size_t end) {
    plan_ = plan.plan;
    first_ = static_cast<int>(events_.size());
    if (ended_early_) std::copy(latest_.begin(), latest_.end(), before_.begin());
    for (auto& [buffer, state] : states_)
      if (!outlives_steps(buffer.kind, *plan_)) state.is_written = false;
    for (size_t i = 0; i < end; ++i) {
      const Action& action = plan_->actions[i];
      events_.push_back({&action, &plan, {}});
      order(action);
      for (const BufferUse& use : action.uses) check(use);
      for (const BufferUse& use : action.uses) note(use);
      nth(latest_, action.lane) = now();
      ++proof_.actions;
      proof_.waits += static_cast<int64_t>(action.waits.size());
      // The first action is one of the compute lane, and each comes after it.
      is_closed_ &= nth(events_.back().done, Lane::Compute) > 0 && (!may_end_at(*plan_, i) || leaves_no_slot());
    }
    ended_early_ = end < plan_->actions.size();
    if (ended_early_) return;
    is_closed_ &= is_all_done();
    for (const auto& [buffer, state] : states_)
      if (buffer.kind == BufferKind::StagingSlot && state.is_changed)
        problem(fmt::format("{} comes, and what was changed of {} in {} is not stored", text_of(now()), name(state.holder),
                            zerostep::text_of(layout_, *plan_, buffer)));
  }
  // Of one plan: whether all of it comes after its first action, one of the compute lane, and before its last, and leaves no slot in use
  // wherever it may end. (Where the ranks end it before, every lane is waited for.) Of two such plans nothing meets.
  bool is_closed() const { return is_closed_; }

 private:
  // Per lane the number of its first events that are known to be done, as the index of the last of them plus one.
  using Done = std::array<int, kLanes>;
  static Done none() {
    Done out;
    out.fill(-1);
    return out;
  }
  struct Event {
    const Action* action;
    const NamedPlan* plan;
    Done done;  // when it starts, itself included
  };
  struct State {
    int writer = -1;
    std::vector<int> readers;  // since it was written
    bool is_written = false;
    int holder = -1, chunk = 0;  // slots: the group whose contents it has, and which of its chunks
    bool is_changed = false;     // staging slots: the file has something else
    bool is_used = true;
  };

  int now() const { return static_cast<int>(events_.size()) - 1; }
  static size_t lane(const Action& a) { return static_cast<size_t>(a.lane); }

  void order(const Action& action) {
    Event& event = events_.back();
    for (size_t l = 0; l < event.done.size(); ++l) event.done[l] = before_[l] + 1;
    const auto after = [&](int other) {
      for (size_t l = 0; l < event.done.size(); ++l) event.done[l] = std::max(event.done[l], nth(events_, other).done[l]);
    };
    if (const int before = latest_[lane(action)]; before >= 0) after(before);
    for (const int wait : action.waits) {
      if (wait < 0 || first_ + wait >= now())
        problem(fmt::format("{} waits for action {}, which is not before it", text_of(now()), wait));
      else
        after(first_ + wait);
    }
    event.done[lane(action)] = now() + 1;
  }

  bool is_done(int other) const { return events_.back().done[lane(*nth(events_, other).action)] > other; }

  // Whether all that came so far is done when the compute lane goes on.
  bool is_all_done() const {
    const Event& last = events_.back();
    for (size_t l = 0; l < last.done.size(); ++l)
      if (last.done[l] <= latest_[l]) return false;
    return last.action->lane == Lane::Compute;
  }
  bool leaves_no_slot() const {
    return std::all_of(states_.begin(), states_.end(), [](const auto& entry) {
      const auto& [buffer, state] = entry;
      return (buffer.kind != BufferKind::ParameterSlot || state.holder < 0) && (buffer.kind != BufferKind::GradientSlot || state.is_used) &&
             (buffer.kind != BufferKind::StagingSlot || !state.is_changed);
    });
  }

  void check(const BufferUse& use) {
    State& state = states_[use.buffer];
    const auto ordered = [&](int other, bool other_writes) {
      if (other < 0 || other == now()) return;
      if (is_done(other)) {
        ++proof_.conflicts;
        return;
      }
      problem(fmt::format("{} {} {} while {} may still {} it: neither waits for the other", text_of(now()), use.writes ? "writes" : "reads",
                          buffer(use), text_of(other), other_writes ? "write" : "read"));
    };
    ordered(state.writer, true);
    if (use.writes)
      for (const int reader : state.readers) ordered(reader, false);
    if (use.reads && !state.is_written && !outlives_steps(use.buffer.kind, *plan_))
      problem(fmt::format("{} reads {}, which nothing has written in this step", text_of(now()), buffer(use)));
    check_slot(use, state);
  }

  void check_staging(const BufferUse& use, const State& state) {
    const bool holds = state.holder == use.group && state.chunk == use.chunk;
    if (use.reads && !holds)
      problem(fmt::format("{} reads {} for {}, and it holds {}", text_of(now()), buffer(use), name(use.group), name(state.holder)));
    if (use.writes && state.is_changed && (!holds || events_.back().action->kind == ActionKind::Load))
      problem(fmt::format("{} writes {}, and what was changed of {} in it is not stored", text_of(now()), buffer(use), name(state.holder)));
  }

  void check_slot(const BufferUse& use, const State& state) {
    if (use.buffer.kind == BufferKind::StagingSlot) return check_staging(use, state);
    if (use.buffer.kind == BufferKind::CheckpointSlot && use.reads && state.is_written && state.chunk != use.chunk)
      problem(fmt::format("{} reads {} for {}, and it holds {}", text_of(now()), buffer(use), layout_.unit(use.chunk).name,
                          layout_.unit(state.chunk).name));
    const bool has_parameters = use.buffer.kind == BufferKind::ParameterSlot;
    if (!has_parameters && use.buffer.kind != BufferKind::GradientSlot) return;
    if (use.reads && state.holder != use.group)
      problem(fmt::format("{} reads {} for {}, and it holds {}", text_of(now()), buffer(use), name(use.group), name(state.holder)));
    if (!use.writes || use.reads || state.holder < 0) return;
    if (has_parameters && use.group >= 0)
      problem(fmt::format("{} writes {}, and {} in it is not released", text_of(now()), buffer(use), name(state.holder)));
    if (!has_parameters && !state.is_used)
      problem(fmt::format("{} writes {}, and nothing has read the gradients of {} in it", text_of(now()), buffer(use), name(state.holder)));
  }

  void note(const BufferUse& use) {
    State& state = states_[use.buffer];
    if (use.writes) {
      state.writer = now();
      state.readers.clear();
      state.is_written = true;
      state.holder = use.group;
      state.chunk = use.chunk;
    }
    const ActionKind kind = events_.back().action->kind;
    if (use.is_last) {  // what was stored of it before is of no use either
      states_[{nth(plan_->staging_rings, use.buffer.index).kind, use.group, use.chunk}].is_written = false;
      state.holder = -1;
    }
    if (kind == ActionKind::Load || kind == ActionKind::Store || use.is_last)
      state.is_changed = false;
    else if (use.writes)
      state.is_changed = true;
    state.is_used = !use.writes || events_.back().action->kind == ActionKind::Reduce;
    if (!use.writes) state.readers.push_back(now());
  }

  void problem(std::string text) {
    std::vector<std::string>& all = proof_.problems;
    if (all.size() < most_ && std::find(all.begin(), all.end(), text) == all.end()) all.push_back(std::move(text));
  }
  std::string name(int group) const { return group < 0 ? "nothing" : layout_.group(group).name; }
  std::string buffer(const BufferUse& use) const { return zerostep::text_of(layout_, *plan_, use.buffer); }
  std::string text_of(int event) const {
    const auto& [action, of, done] = nth(events_, event);
    return fmt::format("action {}{} ({}, {} lane)", action - of->plan->actions.data(), of->name.empty() ? "" : " of " + of->name,
                       describe(layout_, *of->plan, *action), name_of(action->lane));
  }

  const ModelLayout& layout_;
  const Plan* plan_ = nullptr;
  size_t most_;
  PlanProof& proof_;
  int first_ = 0;  // event of the first action of plan_
  std::vector<Event> events_;
  std::array<int, kLanes> latest_ = none();
  std::map<Buffer, State> states_;
  Done before_ = none();  // the last events of what ended early
  bool ended_early_ = false, is_closed_ = true;
};

}  // namespace

PlanProof verify(const ModelLayout& layout, const std::vector<NamedPlan>& plans, size_t most) {
  PlanProof out;
  std::vector<bool> is_closed;
  for (const NamedPlan& plan : plans) {
    Verifier alone(layout, most, out);
    alone.run(plan, plan.plan->actions.size());
    is_closed.push_back(alone.is_closed());
  }
  for (size_t first = 0; first < plans.size(); ++first)
    for (size_t second = 0; second < plans.size(); ++second) {
      for (size_t i = 0; !(is_closed[first] && is_closed[second]) && i < plans[first].plan->actions.size(); ++i) {
        if (!may_end_at(*plans[first].plan, i)) continue;
        Verifier pair(layout, most, out);
        pair.run(plans[first], i + 1);
        pair.run(plans[second], plans[second].plan->actions.size());
      }
    }
  return out;
}

}  // namespace zerostep
