#pragma once
#include <cstddef>
#include <cstdint>

#include "sharding/communicator.h"

namespace zerostep {

// target = sources[0] op sources[1] op ... element by element, in that order: sums in fp32 (fp64 for F64), rounded once to target_type.
// accumulate: target = target + that sum. target may be one of the sources when the types agree. One pass: each source is read once.
// Bitwise the same on every instruction set. past_cache: the operands are not in the caches and the result need not be.
void reduce(const void* const* sources, int num_sources, DType source_type, void* target, DType target_type, int64_t count, ReduceOp op,
            bool accumulate, bool past_cache);

// memcpy; past_cache as above.
void copy_bytes(void* target, const void* source, size_t num_bytes, bool past_cache);

// What a rank can count on having in its own caches: the second level. The last one is shared with who knows whom.
size_t cache_share_bytes();

}  // namespace zerostep
