#pragma once
#include "base/ieee.h"

namespace zerostep {

// e^x of x up to 88 in fp32, within 2 units in the last place (Cephes' polynomial), with the same bits on the host and on a GPU. Below -87
// it is 0; NaN stays NaN.
ZEROSTEP_HOST_DEVICE inline float exponential(float x) {
  constexpr float kToInteger = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer, which its lowest bits then hold
  const float shifted = ieee_fma(x, 1.44269504f, kToInteger), n = ieee_sub(shifted, kToInteger);
  const float r = ieee_fma(n, 2.12194440e-4f, ieee_fma(n, -0.693359375f, x));
  float p = 1.9875691500e-4f;
  p = ieee_fma(p, r, 1.3981999507e-3f);
  p = ieee_fma(p, r, 8.3334519073e-3f);
  p = ieee_fma(p, r, 4.1665795894e-2f);
  p = ieee_fma(p, r, 1.6666665459e-1f);
  p = ieee_fma(p, r, 5.0000001201e-1f);
  const float y = ieee_add(ieee_fma(p, ieee_mul(r, r), r), 1.0f);
  const float power = float_of_bits((bits_of_float(shifted) + 127) << 23);  // 2^n
  return x < -87.0f ? 0.0f : ieee_mul(y, power);
}

}  // namespace zerostep
