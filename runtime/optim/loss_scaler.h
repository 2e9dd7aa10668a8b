#pragma once
#include <cstdint>

#include "runtime/config/config.h"

namespace zerostep {

// DeepSpeed's dynamic loss scale (deepspeed/runtime/fp16/loss_scaler.py), or a static one, or 1 for fp32 and bf16.
class LossScaler {
 public:
  explicit LossScaler(const PrecisionConfig& precision);
  double scale() const { return scale_; }
  // Whether the scale moves: an overflow lowers it, so that a later step may be applied.
  bool is_dynamic() const { return precision_.compute == DType::F16 && precision_.loss_scale == 0; }
  // Says whether the step overflowed; the scale for the next step follows. RunError when an overflow
  // comes that skips no step, or at min_loss_scale.
  void update(bool overflow);
  struct State {
    double scale;
    int64_t iteration, last_overflow;
    int hysteresis;
  };
  State state() const;
  void restore(const State& state);

 private:
  PrecisionConfig precision_;
  double scale_ = 1;
  int64_t iteration_ = 0, last_overflow_ = -1;
  int hysteresis_ = 1;
};

}  // namespace zerostep
