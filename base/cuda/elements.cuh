#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "base/dtype.h"
#include "base/half.h"

namespace zerostep::cuda {

// Elements of a type, and four neighbours.
struct AsF32 {
  using T = float;
  using Four = float4;
  ZEROSTEP_HOST_DEVICE static float value(T x) { return x; }
  ZEROSTEP_HOST_DEVICE static T rounded(float x) { return x; }
  ZEROSTEP_HOST_DEVICE static void values(Four four, float* out) {
    out[0] = four.x;
    out[1] = four.y;
    out[2] = four.z;
    out[3] = four.w;
  }
  ZEROSTEP_HOST_DEVICE static Four four(const float* x) { return {x[0], x[1], x[2], x[3]}; }
};
template <class As>
struct As16Bits {
  using T = uint16_t;
  using Four = uint2;
  ZEROSTEP_HOST_DEVICE static void values(Four four, float* out) {
    out[0] = As::value(static_cast<uint16_t>(four.x));
    out[1] = As::value(static_cast<uint16_t>(four.x >> 16));
    out[2] = As::value(static_cast<uint16_t>(four.y));
    out[3] = As::value(static_cast<uint16_t>(four.y >> 16));
  }
};
struct AsBf16 : As16Bits<AsBf16> {
  ZEROSTEP_HOST_DEVICE static float value(T x) { return fp32_from_bf16(x); }
  ZEROSTEP_HOST_DEVICE static T rounded(float x) { return bf16_from_fp32(x); }
  ZEROSTEP_HOST_DEVICE static Four four(const float* x) { return {bf16_pair_from_fp32(x[0], x[1]), bf16_pair_from_fp32(x[2], x[3])}; }
};
struct AsF16 : As16Bits<AsF16> {
  ZEROSTEP_HOST_DEVICE static float value(T x) { return fp32_from_fp16(x); }
  ZEROSTEP_HOST_DEVICE static T rounded(float x) { return fp16_from_fp32(x); }
  ZEROSTEP_HOST_DEVICE static Four four(const float* x) { return {fp16_pair_from_fp32(x[0], x[1]), fp16_pair_from_fp32(x[2], x[3])}; }
};
// Calls use(As) with the elements of a type, fp32 or one of 16 bits.
template <class Use>
auto with_elements(DType type, const Use& use) {
  return type == DType::F32 ? use(AsF32()) : type == DType::BF16 ? use(AsBf16()) : use(AsF16());
}
// Bits as they are.
struct AsBits16 {
  using T = uint16_t;
  using Four = uint2;
  ZEROSTEP_HOST_DEVICE static T rounded(T x) { return x; }
  ZEROSTEP_HOST_DEVICE static Four four(const T* x) { return {x[0] | uint32_t{x[1]} << 16, x[2] | uint32_t{x[3]} << 16}; }
};

// Stores in one access; the compiler takes plain stores of vectors apart.
#ifdef __CUDA_ARCH__
__device__ inline void store_four(float4 four, float4* to) {
  asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(four.x), "f"(four.y), "f"(four.z), "f"(four.w) : "memory");
}
__device__ inline void store_four(uint2 four, uint2* to) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(four.x), "r"(four.y) : "memory");
}
#else
template <class Four>
void store_four(Four four, Four* to) {
  *to = four;
}
#endif

}  // namespace zerostep::cuda
