#pragma once
#include <cstddef>
#include <cstdint>

namespace zerostep {

// Element types that the runtime moves, sums and updates. F64 is for scalars that ranks exchange.
enum class DType : uint8_t { F32, BF16, F16, F64 };

constexpr size_t size_of(DType t) { return t == DType::F64 ? 8 : t == DType::F32 ? 4 : 2; }
constexpr bool is_16bit(DType t) { return t == DType::BF16 || t == DType::F16; }
constexpr const char* name_of(DType t) {
  switch (t) {
    case DType::F32:
      return "fp32";
    case DType::BF16:
      return "bf16";
    case DType::F16:
      return "fp16";
    case DType::F64:
      return "fp64";
  }
  return "?";
}
constexpr int64_t num_bytes(int64_t num_elements, DType t) { return num_elements * static_cast<int64_t>(size_of(t)); }

// Alignment of every buffer, parameter and shard: one cache line, one AVX-512 register.
constexpr int64_t kAlignmentBytes = 64;
constexpr int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace zerostep
