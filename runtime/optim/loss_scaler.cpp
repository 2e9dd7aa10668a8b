#include "runtime/optim/loss_scaler.h"

#include <algorithm>

#include "base/dtype.h"
#include "base/error.h"

namespace zerostep {
namespace {

constexpr double kScaleFactor = 2.0;

}  // namespace

LossScaler::LossScaler(const PrecisionConfig& precision) : precision_(precision), hysteresis_(precision.hysteresis) {
  if (precision.compute != DType::F16) return;
  scale_ = precision.loss_scale > 0 ? precision.loss_scale : std::exp2(precision.initial_scale_power);
}

void LossScaler::update(bool overflow) {
  if (!is_dynamic()) {
    if (overflow && !precision_.skips_overflow())
      fail_run(
          "the gradients hold Inf or NaN in {}, where no loss scale can help: lower the learning rate, clip the gradients or look at the "
          "data",
          name_of(precision_.compute));
    ++iteration_;
    return;
  }
  if (overflow) {
    if (precision_.hysteresis == 1 || hysteresis_ == 1) {
      if (scale_ == precision_.min_loss_scale) {
        fail_run(
            "the fp16 gradients overflow at the smallest loss scale, {} (fp16.min_loss_scale): lower the learning rate, use bf16, or allow "
            "a smaller scale",
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
  return {.scale = scale_, .iteration = iteration_, .last_overflow = last_overflow_, .hysteresis = hysteresis_};
}

void LossScaler::restore(const State& state) {
  // A static scale is what the configuration says now.
  if (precision_.loss_scale == 0) scale_ = state.scale;
  iteration_ = state.iteration;
  last_overflow_ = state.last_overflow;
  hysteresis_ = state.hysteresis;
}

}  // namespace zerostep
