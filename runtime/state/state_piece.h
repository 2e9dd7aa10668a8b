#pragma once
#include <cstdint>
#include <functional>
#include <span>

#include "base/dtype.h"
#include "models/parameter.h"

namespace zerostep {

// Contiguous elements of a parameter, or of one of the arrays that its optimizer keeps, which a rank owns.
struct StatePiece {
  static constexpr int kValues = -1;
  const ParameterInfo* parameter = nullptr;
  int array = kValues;           // kValues: the parameter itself, in fp32 where it has masters; else the optimizer's k-th array
  int64_t begin = 0, count = 0;  // elements of the parameter
  DType type = DType::F32;
};

// Copies the values of a rank's pieces, as they are now, piece i to targets[i].
using CopyState = std::function<void(std::span<std::byte* const> targets)>;

}  // namespace zerostep
