#pragma once
#include <vector>

#include "models/unit.h"

namespace zerostep {

// Micro-batches one after the other as one batch, for units that read its shapes, tokens, positions, mask and document ids; without labels
// and counts. All of them have the same number of samples; shorter ones are padded at the end.
Batch joined_batch(const std::vector<const Batch*>& batches);

}  // namespace zerostep
