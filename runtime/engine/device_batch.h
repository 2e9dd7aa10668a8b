#pragma once
#include "base/device.h"
#include "models/batch.h"

namespace zerostep {

// Brings a batch to where the device computes, on LibTorch's current stream; on a processor it is the same tensors.
void bring_to_device(Batch& batch, const Device& device);

}  // namespace zerostep
