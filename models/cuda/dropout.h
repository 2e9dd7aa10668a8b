#pragma once
#include <cstdint>
#include <span>

#include "base/cuda/kernel_queue.h"
#include "base/dtype.h"
#include "models/dropout_mask.h"

namespace zerostep::cuda {

// Masks values [samples, elements] in place, as fp32, rounded once. Returns what kept it from being queued.
cudaError_t drop(const KernelQueue& queue, void* values, DType type, int64_t elements, const DropoutMask& mask,
                 std::span<const int64_t> sample_ids);

}  // namespace zerostep::cuda
