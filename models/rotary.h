#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "models/llama/options.h"

namespace zerostep {

// Angles of one position step for each pair of a head's values: fp32 [width / 2]. Llama3 divides the slow ones by `factor`, leaves the fast
// ones and goes smoothly from one to the other between original_max_position_embeddings / low_freq_factor and / high_freq_factor.
// On the CPU.
at::Tensor rotary_frequencies(const RotaryOptions& options, int64_t head_width);

// Cosines and sines of n positions: fp32 [n, width / 2].
struct Rotation {
  at::Tensor cosine, sine;
};
// positions [n] int64, on the device of the frequencies.
Rotation make_rotation(const at::Tensor& frequencies, const at::Tensor& positions);

// Turns each head of rows [m n, heads * width], contiguous, fp32, bf16 or fp16, in place: values i and i + width / 2 are a pair,
// row r has position r mod n. `backwards`: by the opposite angle, which is the gradient's way.
void rotate_(const at::Tensor& rows, const Rotation& rotation, bool backwards = false);

}  // namespace zerostep
