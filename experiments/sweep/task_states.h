#pragma once
#include <chrono>
#include <cstddef>
#include <map>
#include <string>

namespace zerostep {

// What Slurm's list of the tasks of an array tells of them: its last answer, however often it has refused one since.
class TaskStates {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // A file that another node has written may show a minute after its task has left the list.
  static constexpr std::chrono::seconds kPatience{90};

  // Whether it is to be asked again: once a second, whether it answers or not.
  bool is_due(Time now) const;
  void refused(Time now);
  // The states of the tasks that it lists.
  void answered(Time now, std::map<size_t, std::string> states);

  bool has_begun(size_t task) const;
  // Whether an answer came and does not list the task.
  bool is_missing(size_t task) const;
  // Whether answers that are kPatience apart, and those between, do not list the task. No refusal counts for one.
  bool is_lost(size_t task);

 private:
  std::map<size_t, std::string> states_;
  std::map<size_t, Time> missed_;  // the first of the answers in a row that do not list it
  Time asked_at_, answered_at_;    // 0: never
};

}  // namespace zerostep
