#pragma once
#include <cstdint>

#include "runtime/config/config.h"

namespace zerostep {

// DeepSpeed's dynamic loss scale (deepspeed/runtime/fp16/loss_scaler.py), or a static one, or 1 for fp32 and bf16.
class LossScaler {
 public:
  explicit LossScaler(const PrecisionConfig& precision);
  double scale() const { return scale_; }
  // Says whether the step overflowed; the scale for the next step follows. RunError when an overflow comes at min_loss_scale (fp16), or
  // after many overflowing steps in a row (bf16).
  void update(bool overflow);
  struct State {
    double scale;
    int64_t iteration, last_overflow;
    int hysteresis, consecutive_overflows;
  };
  State state() const;
  void restore(const State& state);

 private:
  PrecisionConfig precision_;
  double scale_ = 1;
  int64_t iteration_ = 0, last_overflow_ = -1;
  int hysteresis_ = 1, consecutive_overflows_ = 0;
};

}  // namespace zerostep
