#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

// Functions that compile for the host and, under nvcc, for the device too.
#ifdef __CUDACC__
#define ZEROSTEP_HOST_DEVICE __host__ __device__
#else
#define ZEROSTEP_HOST_DEVICE
#endif

namespace zerostep {

// IEEE operations, each rounded once, that no compiler may fuse.
#ifdef __CUDA_ARCH__
__device__ inline float ieee_add(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float ieee_sub(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float ieee_mul(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float ieee_div(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline float ieee_fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline float ieee_sqrt(float a) { return __fsqrt_rn(a); }
// The steps of __fsqrt_rn() for such numbers, without its branch to those for others.
__device__ inline float ieee_sqrt_between(float a) {
  float reciprocal;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(a));
  const float root = __fmul_rn(a, reciprocal), half = __fmul_rn(reciprocal, 0.5f);
  const float exact = __fmaf_rn(__fmaf_rn(-root, root, a), half, root);
  return a == 0 ? a : exact;
}
__device__ inline uint64_t wide_product(uint32_t a, uint32_t b) {
  uint64_t product;
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
  return product;
}
__device__ inline float ieee_from_int(int32_t a) { return __int2float_rn(a); }
__device__ inline float float_of_bits(uint32_t a) { return __uint_as_float(a); }
__device__ inline uint32_t bits_of_float(float a) { return __float_as_uint(a); }
#else
inline float ieee_add(float a, float b) { return a + b; }
inline float ieee_sub(float a, float b) { return a - b; }
inline float ieee_mul(float a, float b) { return a * b; }
inline float ieee_div(float a, float b) { return a / b; }
inline float ieee_fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float ieee_sqrt(float a) { return std::sqrt(a); }
// Of 0 and numbers from 2^-100 to 2^126.
inline float ieee_sqrt_between(float a) { return std::sqrt(a); }
constexpr uint64_t wide_product(uint32_t a, uint32_t b) { return uint64_t{a} * b; }
inline float ieee_from_int(int32_t a) { return static_cast<float>(a); }
inline float float_of_bits(uint32_t a) {
  float f;
  std::memcpy(&f, &a, sizeof f);
  return f;
}
inline uint32_t bits_of_float(float a) {
  uint32_t u;
  std::memcpy(&u, &a, sizeof u);
  return u;
}
#endif

}  // namespace zerostep
