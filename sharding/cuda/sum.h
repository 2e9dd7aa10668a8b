#pragma once
#include "base/cuda/kernel_queue.h"
#include "sharding/rank_sum.h"

namespace zerostep::cuda {

// Queues a sum. Returns what kept it from being queued.
cudaError_t sum(const KernelQueue& queue, const RankSum& sum);

}  // namespace zerostep::cuda
