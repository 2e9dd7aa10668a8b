#pragma once
#include <exception>
#include <vector>

#include "runtime/plan/plan.h"
#include "runtime/state/lanes.h"

namespace zerostep {

// What actions do. All calls come from the rank's thread, in the order of the plan.
class ActionRunner {
 public:
  virtual ~ActionRunner() = default;
  // Before the action's stream waits for anything: the host fetches what the action needs of it.
  virtual void prepare(const Plan& plan, const Action& action) = 0;
  // Puts the action's work on the stream of its lane. The event is when it is done.
  virtual Event launch(const Plan& plan, const Action& action) = 0;
  // After the launch: an agreement is reached here. False: the ranks agreed to leave out the rest of the list.
  virtual bool agree(const Plan& plan, const Action& action) = 0;
  // The work of an action, or of one that it waited for, threw `error`, which is being handled: throws what says more, if it knows more.
  // `is_of_list_before`: the action is one of the list that was executed before, whose work the host does not wait for on a GPU.
  virtual void explain(const Plan& plan, const Action& action, bool is_of_list_before, const std::exception& error) = 0;
};

// Takes the actions of a plan in their order: lets the stream of each wait for the actions that the plan names, and launches it. It decides
// nothing and has no events but those of the actions; the host waits where `runner` does.
class Executor {
 public:
  // What is passed must outlive the object.
  Executor(const ModelLayout& layout, Lanes& lanes) : layout_(layout), lanes_(lanes) {}
  // False when the runner left out the rest. A PeerError comes through as it is. What comes next on any lane comes after all of it; on a
  // processor it is done.
  bool execute(const Plan& plan, ActionRunner& runner);
  // Blocks until the work of all lists is done.
  void settle(ActionRunner& runner);

 private:
  struct List {
    const Plan* plan = nullptr;
    std::vector<Event> done;  // of the actions so far, by their index
  };
  template <typename Body>
  bool explained(ActionRunner& runner, const Body& body);
  void wait_for(const Plan& plan, const Action& action);
  const ModelLayout& layout_;
  Lanes& lanes_;
  List before_, now_;
};

}  // namespace zerostep
