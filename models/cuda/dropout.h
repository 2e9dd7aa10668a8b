#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "models/dropout_mask.h"

namespace zerostep::cuda {

// Masks values [samples, elements] in place, as fp32, rounded once: queued on the stream, whose device is the current one. Returns what
// kept it from being queued.
cudaError_t drop(cudaStream_t stream, void* values, DType type, int64_t elements, const DropoutMask& mask,
                 std::span<const int64_t> sample_ids);

}  // namespace zerostep::cuda
