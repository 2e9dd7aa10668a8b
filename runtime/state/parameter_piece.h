#pragma once
#include <cstdint>

#include "models/parameter.h"
#include "offload/flat_operands.h"

namespace zerostep {

// Elements [begin, begin + count) of a parameter, as kernels see them.
inline ParameterPiece piece_of(const ParameterInfo& parameter, int64_t begin, int64_t count) {
  const bool is_matrix = parameter.shape.size() == 2;
  return {static_cast<uint64_t>(parameter.first), is_matrix ? parameter.shape[0] : 0, is_matrix ? parameter.shape[1] : 0, begin, count};
}

}  // namespace zerostep
