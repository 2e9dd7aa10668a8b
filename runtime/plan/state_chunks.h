#pragma once
#include <algorithm>
#include <cstdint>

#include "runtime/plan/plan.h"

namespace zerostep {

// How a rank's update state of a group lies in its buffer (BufferKind::UpdateState): a chunk for each range that one Update action covers,
// and in it the arrays of the same elements one after the other, fp32 masters first where the group has them. Every array of a chunk begins
// at an alignment boundary. Counts are elements of the rank's part.
struct StateChunks {
  int64_t part = 0;      // elements that the rank updates
  int64_t elements = 0;  // of a chunk; the last one may have fewer
  int count = 0;         // chunks; 0: the group has no such state
  int arrays = 0;
  bool has_masters = false;

  int chunk_of(int64_t element) const { return static_cast<int>(element / elements); }
  int64_t begin(int chunk) const { return chunk * elements; }
  int64_t end(int chunk) const { return std::min(part, begin(chunk) + elements); }
  // From one array of a chunk to the next.
  int64_t stride(int chunk) const { return round_up(end(chunk) - begin(chunk), kAlignmentBytes / num_bytes(1, DType::F32)); }
  // Element `part_offset` of an array, from the begin of its chunk.
  int64_t offset(int chunk, int array, int64_t part_offset) const { return array * stride(chunk) + part_offset - begin(chunk); }
  // Of every chunk but the last, and of all.
  int64_t chunk_bytes() const { return arrays * num_bytes(stride(0), DType::F32); }
  int64_t bytes() const { return count == 0 ? 0 : (count - 1) * chunk_bytes() + arrays * num_bytes(stride(count - 1), DType::F32); }
};
StateChunks state_chunks(const FlatGroup& group, const Plan& plan);

}  // namespace zerostep
