#pragma once
#include <cstddef>
#include <cstdint>

#include "sharding/communicator.h"

namespace zerostep {

// target = sources[0] op sources[1] op ... element by element, in that order: sums in fp32 (fp64 for F64), rounded once to target_type.
// accumulate: target = target + that sum. target may be one of the sources when the types agree. One pass: each source is read once.
// Bitwise the same on every instruction set.
void reduce(const void* const* sources, int num_sources, DType source_type, void* target, DType target_type, int64_t count, ReduceOp op,
            bool accumulate);

// memcpy that leaves the caches alone when `past_cache`: worth it only for what does not fit in this rank's share of the last level.
void copy_bytes(void* target, const void* source, size_t num_bytes, bool past_cache);

// The last-level cache in bytes (a guess of 32 MiB where the system does not say).
size_t last_level_cache_bytes();

}  // namespace zerostep
