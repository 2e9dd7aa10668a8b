#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace zerostep {

// One step as the progress line shows it.
struct ProgressStep {
  int64_t step = 0;            // from 0
  std::optional<double> loss;  // of the data that the run's losses are of
  double grad_norm = 0, lr = 0, loss_scale = 1;
  bool skipped = false;
  double seconds = 0;
  int64_t tokens = 0;
  int64_t peak_bytes = 0;
  std::optional<double> bp_loss = {};  // of backprop, where it reads other data
};

// From steps to the line that a person reads: speed and remaining time are those of the recent steps, losses the last ones known.
class Progress {
 public:
  // show_scale: fp16, where the loss scale moves.
  Progress(int64_t total_steps, bool show_scale) : total_(total_steps), show_scale_(show_scale) {}
  void add(const ProgressStep& step);
  // "step 120/2000 | loss 2.3412 | lr 3.00e-04 | grad 0.87 | 41.2 k tokens/s | 312 MiB | 4:10 left"
  std::string line() const;
  // Whether the line of the step that was added last is to be shown in a file or a pipe: every `steps_per_print` steps, the run's last, and
  // once before as soon as ten seconds of steps have shown none.
  bool due(int64_t steps_per_print);
  double tokens_per_second() const { return seconds_ > 0 ? tokens_ / seconds_ : 0; }
  double eta_seconds() const { return step_seconds_ * static_cast<double>(total_ - last_.step - 1); }
  int64_t skipped() const { return skipped_; }

 private:
  int64_t total_;
  bool show_scale_;
  ProgressStep last_;
  std::optional<double> loss_, bp_loss_;
  int64_t count_ = 0, skipped_ = 0;
  double tokens_ = 0, seconds_ = 0;  // decaying sums
  double step_seconds_ = 0;
  double seconds_without_line_ = 0;
  bool shown_ = false;
};

}  // namespace zerostep
