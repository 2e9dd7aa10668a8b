#pragma once
#include "base/ieee.h"
#include "offload/flat_operands.h"

namespace zerostep::cuda {

// The lane of optimizer_math.h that is one float.
struct Lane {
  using V = float;
  ZEROSTEP_HOST_DEVICE static V set(float x) { return x; }
  ZEROSTEP_HOST_DEVICE static V add(V a, V b) { return ieee_add(a, b); }
  ZEROSTEP_HOST_DEVICE static V sub(V a, V b) { return ieee_sub(a, b); }
  ZEROSTEP_HOST_DEVICE static V mul(V a, V b) { return ieee_mul(a, b); }
  ZEROSTEP_HOST_DEVICE static V div(V a, V b) { return ieee_div(a, b); }
  ZEROSTEP_HOST_DEVICE static V sqrt(V a) { return ieee_sqrt(a); }
  ZEROSTEP_HOST_DEVICE static V fma(V a, V b, V c) { return ieee_fma(a, b, c); }
  ZEROSTEP_HOST_DEVICE static V sign(V a) { return a > 0 ? 1.0f : a < 0 ? -1.0f : a; }
};

namespace math {
#define ZEROSTEP_LANE_FUNCTION ZEROSTEP_HOST_DEVICE inline
#include "offload/optimizer_math.h"
}  // namespace math

}  // namespace zerostep::cuda
