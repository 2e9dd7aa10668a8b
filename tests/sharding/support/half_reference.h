#pragma once
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/dtype.h"

namespace zerostep::test {

// 16-bit floats by arithmetic in double, as IEEE 754 defines them: no bit tricks, no intrinsics.
struct HalfFormat {
  int mantissa_bits, min_exponent, max_exponent;
};
inline HalfFormat format_of(DType type) { return type == DType::BF16 ? HalfFormat{7, -126, 127} : HalfFormat{10, -14, 15}; }

inline double from_half(uint16_t bits, DType type) {
  const HalfFormat format = format_of(type);
  const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
  const int exponent = (bits & 0x7fff) >> format.mantissa_bits;
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == format.max_exponent - format.min_exponent + 2)
    return mantissa ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, format.min_exponent - format.mantissa_bits);
  return sign * std::ldexp((1 << format.mantissa_bits) + mantissa, exponent - 1 + format.min_exponent - format.mantissa_bits);
}

// Round to nearest even; NaN gives some NaN.
inline uint16_t to_half(float value, DType type) {
  const HalfFormat format = format_of(type);
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const uint16_t infinity = static_cast<uint16_t>((format.max_exponent - format.min_exponent + 2) << format.mantissa_bits);
  if (std::isnan(value)) return static_cast<uint16_t>(sign | infinity | 1 << (format.mantissa_bits - 1));
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude == 0) return sign;
  if (std::isinf(magnitude)) return sign | infinity;
  const int exponent = std::max(std::ilogb(magnitude), format.min_exponent);
  const double steps = std::nearbyint(std::ldexp(magnitude, format.mantissa_bits - exponent));  // in units of the last place
  const double rounded = std::ldexp(steps, exponent - format.mantissa_bits);
  if (rounded >= std::ldexp(1.0, format.max_exponent + 1)) return sign | infinity;
  if (rounded < std::ldexp(1.0, format.min_exponent)) return static_cast<uint16_t>(sign | static_cast<int>(steps));
  const int final_exponent = std::ilogb(rounded);
  const auto mantissa = static_cast<int>(std::ldexp(rounded, format.mantissa_bits - final_exponent)) - (1 << format.mantissa_bits);
  return static_cast<uint16_t>(sign | (final_exponent - format.min_exponent + 1) << format.mantissa_bits | mantissa);
}

// An element of any type read as a double, and a float or double stored as one.
inline double read_element(const void* data, int64_t index, DType type) {
  if (type == DType::F64) return static_cast<const double*>(data)[index];
  if (type == DType::F32) return static_cast<const float*>(data)[index];
  return from_half(static_cast<const uint16_t*>(data)[index], type);
}
inline void write_element(void* data, int64_t index, DType type, double value) {
  if (type == DType::F64)
    static_cast<double*>(data)[index] = value;
  else if (type == DType::F32)
    static_cast<float*>(data)[index] = static_cast<float>(value);
  else
    static_cast<uint16_t*>(data)[index] = to_half(static_cast<float>(value), type);
}

// A value between -2 and 2 of very different sizes, from a hash: sums of them depend on their order.
inline double sample(uint64_t rank, uint64_t index, uint64_t salt = 0) {
  uint64_t x = (rank + 1) * 0x9e3779b97f4a7c15u ^ (index + 1) * 0xbf58476d1ce4e5b9u ^ (salt + 1) * 0x94d049bb133111ebu;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  x ^= x >> 31;
  return (static_cast<double>(x >> 40) / (1 << 23) - 1.0) * std::ldexp(1.0, -static_cast<int>(x & 7));
}

}  // namespace zerostep::test
