#pragma once
#include <vector>

#include "models/batch.h"

namespace zerostep {

// Pads shorter batches at the end to the longest of them, and gives all of them a mask where one needs it.
void pad_together(const std::vector<Batch*>& batches);

// Micro-batches one after the other as one batch, for units that read its shapes, tokens, positions, mask and document ids; without labels
// and counts. All of them have the same of these, of the same shapes.
Batch joined_batch(const std::vector<const Batch*>& batches);

}  // namespace zerostep
