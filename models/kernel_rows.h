#pragma once
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

namespace zerostep {

// What the kernels of the models ask of tensors, and how they reach into them.

inline constexpr int64_t kGrainElements = int64_t{1} << 14;  // a thread's least work

// Contiguous on the CPU, of fp32, bf16 or fp16.
inline bool has_lanes(const at::Tensor& t) {
  const auto type = t.scalar_type();
  return t.device().is_cpu() && t.is_contiguous() && (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}

// Element `index` of a contiguous tensor.
inline std::byte* element_of(const at::Tensor& t, int64_t index) {
  return static_cast<std::byte*>(t.data_ptr()) + index * static_cast<int64_t>(t.element_size());
}

}  // namespace zerostep
