#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "base/nth.h"
#include "runtime/plan/plan.h"

// The loads and stores of what rests in files.

namespace zerostep {
namespace {

// Goes through a list once, follows what is in each staging slot, and notes after which of its actions a load or a store can begin.
class LoadsAndStores {
 public:
  explicit LoadsAndStores(Plan& plan) : plan_(plan), after_(plan.actions.size()) {}

  void run() {
    for (int i = 0; i < std::ssize(plan_.actions); ++i) {
      for (const BufferUse& use : plan_.action(i).uses)
        if (use.buffer.kind == BufferKind::StagingSlot) take(i, use);
      // Where the ranks agree a step may end.
      if (plan_.action(i).kind == ActionKind::Agree || plan_.action(i).kind == ActionKind::End)
        for (auto& [buffer, slot] : slots_) store(slot);
    }
    std::vector<Action> actions;
    for (int i = 0; i < std::ssize(plan_.actions); ++i) {
      actions.push_back(std::move(nth(plan_.actions, i)));
      for (Action& added : nth(after_, i)) actions.push_back(std::move(added));
    }
    plan_.actions = std::move(actions);
  }

 private:
  struct Slot {
    std::optional<Buffer> content;
    bool is_changed = false;
    int last_use = 0, last_change = 0;  // actions; 0: the first of the list
  };

  void take(int i, const BufferUse& use) {
    Slot& slot = slots_[use.buffer];
    const Buffer content{nth(plan_.staging_rings, use.buffer.index).kind, use.group, use.chunk};
    if (slot.content != content) {
      store(slot);
      slot.content = content;
      const bool is_state = content.kind != BufferKind::Parameters;
      // What is needed first is loaded first, even if its slot is the last to be free.
      if (use.reads) {
        last_load_ = std::max(last_load_, is_state && !plan_.options.loads_early ? i - 1 : slot.last_use);
        add(last_load_, ActionKind::Load, content);
      }
    }
    slot.last_use = i;
    if (use.is_last) {
      slot.content.reset();
      slot.is_changed = false;
    }
    if (!use.writes) return;
    slot.is_changed = true;
    slot.last_change = i;
  }

  void store(Slot& slot) {
    if (slot.is_changed) add(slot.last_change, ActionKind::Store, *slot.content);
    slot.is_changed = false;
  }

  void add(int after, ActionKind kind, const Buffer& chunk) {
    Action a{.kind = kind};
    a.chunk = chunk;
    nth(after_, after).push_back(std::move(a));
  }

  Plan& plan_;
  std::vector<std::vector<Action>> after_;  // what follows each action
  std::map<Buffer, Slot> slots_;
  int last_load_ = 0;  // the action that the latest load follows
};

}  // namespace

void add_loads_and_stores(const ModelLayout& layout, Plan& plan) {
  if (plan.staging_rings.empty()) return;
  find_uses(layout, plan);
  LoadsAndStores(plan).run();
}

}  // namespace zerostep
