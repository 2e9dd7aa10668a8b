#pragma once
#include <cstdint>

#include "base/noise.h"

namespace zerostep {

// Multiplies by `scale` what it keeps and by 0 what it drops: an element is kept where its bits of the key (base/noise.h) are at least
// `threshold`. Element i of a sample of n has bits id * n + i, id being the sample's.
struct DropoutMask {
  NoiseKey key;
  uint32_t threshold;
  float scale;
};

}  // namespace zerostep
