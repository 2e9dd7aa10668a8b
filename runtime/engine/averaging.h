#pragma once
#include "runtime/config/config.h"

namespace zerostep {

// From the gradient of a sum over a rank's tokens to the mean over all: the factors on its way, `shares` / tokens first.
struct Averaging {
  double shares = 1;           // parts that the tokens come in: backward begins with those of one part averaged, ...
  double backward_factor = 1;  // ... times this
  double message_factor = 1;   // of a 16-bit message, before it is rounded
  double sum_factor = 1;
};
// DeepSpeed's: the gradient that leaves a rank is g / f (g / W with prescale_gradients) of the mean g over the rank's tokens, and f / W (1)
// follows the sum. In fp16 a backward begins with the mean over a micro-batch instead, so that what overflows in it does not depend on how
// many ranks and accumulation steps share the micro-batches; the same factors follow where a message or an update needs them.
inline Averaging averaging_of(const Config& config, int world) {
  const double ranks = world, rank_factor = config.prescale_gradients ? 1 / ranks : 1 / config.gradient_predivide_factor,
               sum_factor = config.prescale_gradients ? 1.0 : config.gradient_predivide_factor / ranks;
  if (config.precision.compute != DType::F16) return {ranks, rank_factor, 1, sum_factor};
  const double steps = static_cast<double>(config.batch.accumulation_steps), micro_batches = ranks * steps;
  if (world == 1 || !is_16bit(config.communication_data_type)) return {micro_batches, 1, 1, 1 / micro_batches};
  return {micro_batches, 1, rank_factor / steps, sum_factor};
}

}  // namespace zerostep
