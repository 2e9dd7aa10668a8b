#pragma once
#include <cstdint>

#include "base/dtype.h"

namespace zerostep {

// A sum, or the maximum, of `count` elements of every rank of a group, which one of them makes: as Communicator says, in rank order, with
// the values of the other ranks one after the other, `stride` elements apart.
struct RankSum {
  const void *own, *others;
  int64_t stride, count;
  int rank, num_ranks;
  DType source_type, target_type;
  void* target;
  bool is_maximum = false, accumulate = false;
};

}  // namespace zerostep
