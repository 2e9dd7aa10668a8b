#pragma once
#include <cuda_runtime_api.h>

#include "sharding/rank_sum.h"

namespace zerostep::cuda {

// Queues a sum on a stream of the current device. Returns what kept it from being queued.
cudaError_t sum(cudaStream_t stream, unsigned max_blocks, const RankSum& sum);

}  // namespace zerostep::cuda
