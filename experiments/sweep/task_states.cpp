#include "experiments/sweep/task_states.h"

#include <utility>

namespace zerostep {

bool TaskStates::is_due(Time now) const {
  constexpr std::chrono::seconds kInterval{1};
  return asked_at_ == Time() || now - asked_at_ >= kInterval;
}

void TaskStates::refused(Time now) { asked_at_ = now; }

void TaskStates::answered(Time now, std::map<size_t, std::string> states) {
  asked_at_ = answered_at_ = now;
  states_ = std::move(states);
  for (const auto& [task, state] : states_) missed_.erase(task);
}

bool TaskStates::has_begun(size_t task) const {
  const auto it = states_.find(task);
  return it != states_.end() && it->second != "PD" && it->second != "CF";
}

bool TaskStates::is_missing(size_t task) const { return answered_at_ != Time() && !states_.contains(task); }

bool TaskStates::is_lost(size_t task) {
  if (!is_missing(task)) return false;
  const Time since = missed_.try_emplace(task, answered_at_).first->second;
  return answered_at_ - since >= kPatience;
}

}  // namespace zerostep
