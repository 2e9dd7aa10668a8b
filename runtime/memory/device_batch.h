#pragma once
#include <vector>

#include "base/device.h"
#include "models/batch.h"

namespace zerostep {

// Brings batches to where the device computes: all their tensors in one pinned block and one copy, on LibTorch's current stream. The caller
// does not wait for it. On a processor they stay the tensors that they are.
void bring_to_device(std::vector<Batch*> batches, const Device& device);

}  // namespace zerostep
