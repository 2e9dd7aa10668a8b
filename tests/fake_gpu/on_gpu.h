#pragma once
#include "base/device.h"
#include "sharding/communicator.h"
#include "sharding/nccl_communicator.h"

namespace zerostep::testing {

// A group of GPUs whose operands lie in memory of the host: each operation brings what it reads to the GPU, and what it wrote back, so that
// what every backend must do can be asked of one of GPUs. It gives the group `staging_bytes` for sums. Errors of a group stay in it: every
// group, and every one that is split from it, has streams of a Device of its own.
Communicator on_gpu(const Communicator& group, int gpu, int64_t staging_bytes);

// The group of NCCL over a group of the host, of ranks with a GPU each. RunError with the reason where they cannot have it.
Communicator nccl_of(const Communicator& world, const Device& gpu, const NcclOptions& options = {30, true});

}  // namespace zerostep::testing
