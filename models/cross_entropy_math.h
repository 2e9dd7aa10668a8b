#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/exponential.h"

namespace zerostep {

// The cross-entropy of rows of logits that come in parts, one element at a time, with the same bits on the host and on a GPU.

inline constexpr int64_t kIgnoredLabel = -100;

// What some logits of a row tell: the largest, and the sum of exp(logit - largest).
struct LogitSums {
  float largest, sum;
};
// How they are kept, as fp32 [n, LogitStatistic::kNumber]: largest, sum, and the label's logit of each row.
struct LogitStatistic {
  enum : int64_t { kLargest, kSum, kLabel, kNumber };
};
// Of no logits: below any number, so that it counts for nothing.
ZEROSTEP_HOST_DEVICE constexpr LogitSums no_logits() { return {-3.4028234e38f, 0.0f}; }

// exp(from - to), by which a sum is to be multiplied when the largest logit changes.
ZEROSTEP_HOST_DEVICE inline float rescaling(float from, float to) { return exponential(ieee_sub(from, to)); }

ZEROSTEP_HOST_DEVICE inline LogitSums joined(const LogitSums& a, const LogitSums& b) {
  const float largest = a.largest > b.largest ? a.largest : b.largest;
  return {largest, ieee_add(ieee_mul(a.sum, rescaling(a.largest, largest)), ieee_mul(b.sum, rescaling(b.largest, largest)))};
}

// ln(x) in fp64 of a normal number, within 4 units in the last place: 2 artanh((m - 1) / (m + 1)) of the mantissa m in [sqrt(1/2),
// sqrt(2)). Of 0 it is -infinity; infinity and NaN stay what they are.
ZEROSTEP_HOST_DEVICE inline double logarithm(double x) {
  if (!(x > 0 && x - x == 0)) return x == 0 ? -static_cast<double>(INFINITY) : x;
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint64_t shifted = bits - 0x3FE6A09E667F3BCDull;  // of sqrt(1/2)
  const auto exponent = static_cast<double>(static_cast<int64_t>(shifted) >> 52);
  const uint64_t mantissa_bits = (shifted & 0x000FFFFFFFFFFFFFull) + 0x3FE6A09E667F3BCDull;
  double m;
  memcpy(&m, &mantissa_bits, sizeof m);
  const double s = (m - 1) / (m + 1), z = s * s;
  double p = 1.0 / 23;
  for (int k = 21; k >= 3; k -= 2) p = p * z + 1.0 / k;
  return exponent * 0.69314718055994529 + 2 * (s + s * z * p);
}

// The loss of a row whose sums are those of all its logits.
ZEROSTEP_HOST_DEVICE inline double row_loss(const LogitSums& sums, float label_logit) {
  return (static_cast<double>(sums.largest) - static_cast<double>(label_logit)) + logarithm(static_cast<double>(sums.sum));
}

}  // namespace zerostep
