#pragma once
#include <c10/core/ScalarType.h>

#include "base/dtype.h"
#include "base/error.h"

namespace zerostep {

// LibTorch's name of an element type.
inline at::ScalarType scalar_type(DType type) {
  switch (type) {
    case DType::F32:
      return at::kFloat;
    case DType::BF16:
      return at::kBFloat16;
    case DType::F16:
      return at::kHalf;
    case DType::F64:
      return at::kDouble;
  }
  fail_protocol("[scalar_type] unknown type");
}

}  // namespace zerostep
