#pragma once
#include <vector>

#include "runtime/config/config.h"

namespace zerostep {

// Cosine and noise scale of instructed directions, driven by the loss: every `fall` by which the mean of the last ten losses lies below the
// threshold is a notch, and each notch moves a value by its increment. Notches are never taken back. The same on every rank, because the
// losses are.
class InstructSchedule {
 public:
  explicit InstructSchedule(const StepConfig::Instruct& config);
  void add(double loss);
  // The configuration of the next step.
  StepConfig::Instruct now() const;
  struct State {
    std::vector<double> losses;
    int64_t next;
    double lowest_mean;
  };
  State state() const { return {losses_, static_cast<int64_t>(next_), lowest_mean_}; }
  void restore(const State& state) {
    losses_ = state.losses;
    next_ = static_cast<size_t>(state.next);
    lowest_mean_ = state.lowest_mean;
  }

 private:
  using Schedule = StepConfig::Instruct::Schedule;
  static double value(const Schedule& schedule, double lowest_mean);
  StepConfig::Instruct config_;
  std::vector<double> losses_;  // the last ten, in a ring
  size_t next_ = 0;
  double lowest_mean_;
};

}  // namespace zerostep
