#include "runtime/optim/loss_scaler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace zerostep {
namespace {

constexpr double kScaleFactor = 2.0;
// A 16-bit run whose scale cannot fall any more does not recover from this many overflowing steps in a row.
constexpr int kMaxConsecutiveOverflows = 20;

}  // namespace

LossScaler::LossScaler(const PrecisionConfig& precision) : precision_(precision), hysteresis_(precision.hysteresis) {
  if (precision.compute != DType::F16) return;
  scale_ = precision.loss_scale > 0 ? precision.loss_scale : std::exp2(precision.initial_scale_power);
}

void LossScaler::update(bool overflow) {
  consecutive_overflows_ = overflow ? consecutive_overflows_ + 1 : 0;
  const bool dynamic = precision_.compute == DType::F16 && precision_.loss_scale == 0;
  if (!dynamic) {
    if (overflow && precision_.compute == DType::F32) {
      fail_run(
          "the gradients hold Inf or NaN in fp32, where no loss scale can help: lower the learning rate, clip the gradients or look at the "
          "data");
    }
    if (consecutive_overflows_ >= kMaxConsecutiveOverflows) {
      fail_run("{} steps in a row were skipped because their {} gradients hold Inf or NaN{}: lower the learning rate or look at the data",
               consecutive_overflows_, name_of(precision_.compute),
               precision_.compute == DType::F16 ? fmt::format(" (static loss scale {}; fp16.loss_scale 0 is dynamic)", scale_) : "");
    }
    ++iteration_;
    return;
  }
  if (overflow) {
    if (precision_.hysteresis == 1 || hysteresis_ == 1) {
      if (scale_ == precision_.min_loss_scale) {
        fail_run(
            "the fp16 gradients overflow at the smallest loss scale, {} (fp16.min_loss_scale): lower the learning rate, use bf16, or allow "
            "a "
            "smaller scale",
            scale_);
      }
      scale_ = std::max(scale_ / kScaleFactor, precision_.min_loss_scale);
    } else {
      --hysteresis_;
    }
    last_overflow_ = iteration_;
  } else {
    if (precision_.consecutive_hysteresis) hysteresis_ = precision_.hysteresis;
    const int64_t stable = iteration_ - last_overflow_ - 1;
    if (stable > 0 && stable % precision_.loss_scale_window == 0) {
      hysteresis_ = precision_.hysteresis;
      scale_ *= kScaleFactor;
    }
  }
  ++iteration_;
}

LossScaler::State LossScaler::state() const {
  return {.scale = scale_,
          .iteration = iteration_,
          .last_overflow = last_overflow_,
          .hysteresis = hysteresis_,
          .consecutive_overflows = consecutive_overflows_};
}

void LossScaler::restore(const State& state) {
  // A static scale is what the configuration says now.
  if (precision_.loss_scale == 0) scale_ = state.scale;
  iteration_ = state.iteration;
  last_overflow_ = state.last_overflow;
  hysteresis_ = state.hysteresis;
  consecutive_overflows_ = state.consecutive_overflows;
}

}  // namespace zerostep
