#include "runtime/report/progress.h"

#include <fmt/format.h>

#include "base/format.h"

namespace zerostep {
namespace {

constexpr double kDecay = 0.9;  // a sum over about the last ten steps
constexpr double kFirstLineSeconds = 10;

}  // namespace

void Progress::add(const ProgressStep& step) {
  last_ = step;
  if (step.loss) loss_ = step.loss;
  if (step.bp_loss) bp_loss_ = step.bp_loss;
  skipped_ += step.skipped ? 1 : 0;
  // The first step also warms caches up: it does not count once there is another.
  const double decay = count_ < 2 ? 0 : kDecay;
  tokens_ = decay * tokens_ + static_cast<double>(step.tokens);
  seconds_ = decay * seconds_ + step.seconds;
  step_seconds_ = count_ < 2 ? step.seconds : kDecay * step_seconds_ + (1 - kDecay) * step.seconds;
  seconds_without_line_ += shown_ ? 0 : step.seconds;
  ++count_;
}

bool Progress::due(int64_t steps_per_print) {
  const int64_t done = last_.step + 1;
  const bool is_due = done % steps_per_print == 0 || done == total_ || (!shown_ && seconds_without_line_ >= kFirstLineSeconds);
  shown_ |= is_due;
  return is_due;
}

std::string Progress::line() const {
  // What is asked for most comes first: a narrow terminal cuts the end.
  std::string line = fmt::format("step {}/{}", last_.step + 1, total_);
  if (loss_) line += fmt::format(" | loss {:.4f}", *loss_);
  if (bp_loss_) line += fmt::format(" | bp loss {:.4f}", *bp_loss_);
  line += fmt::format(" | {} | {} tokens/s | {} | lr {:.2e} | grad {:.3g}",
                      last_.step + 1 < total_ ? human_duration(eta_seconds()) + " left" : "done", human_count(tokens_per_second()),
                      human_bytes(last_.peak_bytes), last_.lr, last_.grad_norm);
  if (show_scale_) line += fmt::format(" | scale {:g}", last_.loss_scale);
  if (last_.skipped) line += " | skipped";
  return line;
}

}  // namespace zerostep
