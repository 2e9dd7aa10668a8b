#include <algorithm>
#include <array>
#include <map>

#include "base/nth.h"
#include "runtime/plan/plan.h"

// The waits that follow from what the actions of a plan read and write.

namespace zerostep {
namespace {

// Of each lane the last action that is known to be done; -1: none.
using Clock = std::array<int, kLanes>;
int& at(Clock& clock, Lane lane) { return nth(clock, lane); }

// Waits of an action for what it conflicts with, as few as there can be: each lane's latest, and none that another one implies.
class Orderer {
 public:
  explicit Orderer(Plan& plan) : plan_(plan), clocks_(plan.actions.size()) {
    for (Clock& clock : lane_clocks_) clock.fill(-1);
  }

  void run() {
    for (int i = 0; i < static_cast<int>(plan_.actions.size()); ++i) {
      Action& a = nth(plan_.actions, i);
      Clock needed;
      needed.fill(-1);
      if (a.kind == ActionKind::End) needed = last_;
      for (const BufferUse& use : a.uses) conflicts(use, needed);
      order(i, needed);
      for (const BufferUse& use : a.uses) note(i, use);
      at(last_, a.lane) = i;
    }
  }

 private:
  struct History {
    int writer = 0;  // at first Begin, as whatever the step before did
    Clock readers = none();
    static Clock none() {
      Clock clock;
      clock.fill(-1);
      return clock;
    }
  };

  void need(int other, Clock& needed) const {
    const Lane lane = plan_.action(other).lane;
    at(needed, lane) = std::max(at(needed, lane), other);
  }

  void conflicts(const BufferUse& use, Clock& needed) {
    const History& history = histories_[use.buffer];
    need(history.writer, needed);
    if (!use.writes) return;
    for (const int reader : history.readers)
      if (reader >= 0) need(reader, needed);
  }

  void order(int i, const Clock& needed) {
    Action& a = nth(plan_.actions, i);
    a.waits.clear();
    Clock known = nth(lane_clocks_, a.lane);
    std::vector<int> others(needed.begin(), needed.end());
    std::sort(others.rbegin(), others.rend());
    for (const int other : others) {
      if (other < 0) continue;
      const Lane lane = plan_.action(other).lane;
      if (lane == a.lane || at(known, lane) >= other) continue;
      a.waits.push_back(other);
      for (size_t l = 0; l < known.size(); ++l) known[l] = std::max(known[l], nth(clocks_, other)[l]);
    }
    at(known, a.lane) = i;
    nth(clocks_, i) = nth(lane_clocks_, a.lane) = known;
  }

  void note(int i, const BufferUse& use) {
    History& history = histories_[use.buffer];
    if (use.writes) history = {i, History::none()};
    at(history.readers, plan_.action(i).lane) = i;
  }

  Plan& plan_;
  std::vector<Clock> clocks_;
  std::array<Clock, kLanes> lane_clocks_;
  Clock last_ = History::none();
  std::map<Buffer, History> histories_;
};

}  // namespace

void order_actions(const ModelLayout& layout, Plan& plan) {
  find_uses(layout, plan);
  Orderer(plan).run();
}

}  // namespace zerostep
