#pragma once
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace zerostep {

// What the kernels of the models ask of tensors, how they reach into them, and what LibTorch's operations do in their place on a device
// that has none.

inline constexpr int64_t kGrainElements = int64_t{1} << 14;  // a thread's least work

// While one lives, tensors of the CPU go the way of a device without kernels, so that tests see both ways. Made and ended while no unit
// runs.
class WithoutKernels {
 public:
  WithoutKernels() : before_(std::exchange(is_alive_, true)) {}
  ~WithoutKernels() { is_alive_ = before_; }
  WithoutKernels(const WithoutKernels&) = delete;
  WithoutKernels& operator=(const WithoutKernels&) = delete;
  static bool is_alive() { return is_alive_; }

 private:
  static inline bool is_alive_ = false;
  bool before_;
};

// Whether the host's code may work in its memory.
inline bool has_kernels(const at::Tensor& t) { return t.device().is_cpu() && !WithoutKernels::is_alive(); }

// Contiguous, of fp32, bf16 or fp16.
inline bool has_plain_rows(const at::Tensor& t) {
  const auto type = t.scalar_type();
  return t.is_contiguous() && (type == at::kFloat || type == at::kBFloat16 || type == at::kHalf);
}
inline bool has_lanes(const at::Tensor& t) { return has_kernels(t) && has_plain_rows(t); }

// Element `index` of a contiguous tensor.
inline std::byte* element_of(const at::Tensor& t, int64_t index) {
  return static_cast<std::byte*>(t.data_ptr()) + index * static_cast<int64_t>(t.element_size());
}

// What LibTorch's operations do in a kernel's place passes through fp32 copies: those of so many elements at a time.
inline constexpr int64_t kPartElements = int64_t{1} << 22;

// Calls f(first, count) for all of `count` items of so many elements each, in parts of about kPartElements.
template <class F>
void for_parts(int64_t count, int64_t elements, const F& f) {
  const int64_t step = std::max<int64_t>(1, kPartElements / std::max<int64_t>(1, elements));
  for (int64_t first = 0; first < count; first += step) f(first, std::min(step, count - first));
}

}  // namespace zerostep
