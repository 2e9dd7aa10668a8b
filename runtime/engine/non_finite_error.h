#pragma once
#include "base/error.h"

namespace zerostep {

// A step whose loss or gradient is no finite number, where that ends the run.
class NonFiniteError : public RunError {
 public:
  using RunError::RunError;
};

}  // namespace zerostep
