#pragma once
#include <chrono>

namespace zerostep {

// Seconds that a rank's own thread and its compute stream (on a processor the same) spent in each phase of a step: what DeepSpeed's
// wall_clock_breakdown prints. On a GPU data and scalars are the thread's, beside what the stream does, and the others the stream's.
struct StepTimers {
  double data = 0, forward = 0, backward = 0, wait = 0, reduce = 0, scalars = 0, update = 0;
  double host_update = 0;  // in a thread of its own beside the others: no part of the total
  double total() const { return data + forward + backward + wait + reduce + scalars + update; }
  StepTimers operator+(const StepTimers& o) const {
    return {data + o.data,     forward + o.forward, backward + o.backward, wait + o.wait,
            reduce + o.reduce, scalars + o.scalars, update + o.update,     host_update + o.host_update};
  }
};

// Adds the time of its scope to one of them, or to a sum of another thread's.
template <typename Seconds>
class TimeInto {
 public:
  explicit TimeInto(Seconds& seconds) : seconds_(seconds), start_(std::chrono::steady_clock::now()) {}
  ~TimeInto() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  TimeInto(const TimeInto&) = delete;
  TimeInto& operator=(const TimeInto&) = delete;

 private:
  Seconds& seconds_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace zerostep
