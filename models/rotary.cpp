#include "models/rotary.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <numbers>

#include "base/error.h"
#include "base/simd_targets.h"
#include "models/device_kernels.h"
#include "models/kernel_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/rotary.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "models/row_lanes-inl.h"

#ifndef ZEROSTEP_MODELS_ROTARY_
#define ZEROSTEP_MODELS_ROTARY_
namespace zerostep {

struct RotaryRow {
  void* row;
  const float *cosine, *sine;
  int64_t heads, half;
  float direction;  // 1, or -1 backwards
};

}  // namespace zerostep
#endif

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

template <typename As>
void rotate_row(const RotaryRow& a) {
  const VF direction = hn::Set(F32(), a.direction);
  for (int64_t h = 0; h < a.heads; ++h) {
    auto* first = static_cast<typename As::T*>(a.row) + 2 * h * a.half;
    auto* second = first + a.half;
    for_columns(a.half, [&](int64_t j, int64_t n) ZEROSTEP_INLINED {
      const VF c = load_first<AsFloat>(a.cosine + j, n), s = hn::Mul(direction, load_first<AsFloat>(a.sine + j, n));
      const VF x = load_first<As>(first + j, n), y = load_first<As>(second + j, n);
      store_first<As>(hn::NegMulAdd(y, s, hn::Mul(x, c)), first + j, n);
      store_first<As>(hn::MulAdd(x, s, hn::Mul(y, c)), second + j, n);
    });
  }
}

void rotate(at::ScalarType type, const RotaryRow& a) {
  with_element_type(type, [&](auto as) HWY_ATTR { rotate_row<decltype(as)>(a); });
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(rotate);

// The kernel's mathematics in LibTorch's operations: rows [m, positions, heads, 2, half].
void rotate_by_operations(const at::Tensor& rows, const Rotation& rotation, bool backwards) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = rows.select(3, 0), y = rows.select(3, 1);
  for_parts(rows.size(1), rows.numel() / rows.size(1), [&](int64_t first, int64_t count) {
    const at::Tensor a = x.narrow(1, first, count), b = y.narrow(1, first, count);
    const at::Tensor cosine = rotation.cosine.narrow(0, first, count).unsqueeze(1);
    at::Tensor sine = rotation.sine.narrow(0, first, count).unsqueeze(1);
    if (backwards) sine = sine.neg();
    const at::Tensor turned = at::mul(a, cosine).sub_(at::mul(b, sine));
    b.copy_(at::mul(b, cosine).add_(at::mul(a, sine)));
    a.copy_(turned);
  });
}

}  // namespace

// In fp32 and in transformers' order of operations: at far positions an angle shows every rounding of its frequency.
at::Tensor rotary_frequencies(const RotaryOptions& o, int64_t head_width) {
  const auto floats = at::TensorOptions().dtype(at::kFloat);
  const at::Tensor exponents = at::arange(0, head_width, 2, floats) / static_cast<double>(head_width);
  at::Tensor frequencies = at::pow(at::Scalar(o.rope_theta), exponents).reciprocal_();
  if (o.type == RotaryOptions::Type::Linear) return frequencies / o.factor;
  if (o.type == RotaryOptions::Type::Default) return frequencies;
  const auto original = static_cast<double>(o.original_max_position_embeddings);
  const double longest = original / o.low_freq_factor, shortest = original / o.high_freq_factor;
  const at::Tensor wavelength = frequencies.reciprocal() * (2 * std::numbers::pi);
  const at::Tensor stretched = at::where(wavelength > longest, frequencies / o.factor, frequencies);
  const at::Tensor share = (wavelength.reciprocal() * original - o.low_freq_factor) / (o.high_freq_factor - o.low_freq_factor);
  const at::Tensor between = (1 - share) * stretched / o.factor + share * stretched;
  return at::where((wavelength < shortest).logical_or(wavelength > longest), stretched, between);
}

Rotation make_rotation(const at::Tensor& frequencies, const at::Tensor& positions) {
  at::Tensor angles = at::outer(positions.to(at::kFloat), frequencies);
  at::Tensor cosine = angles.cos();
  return {cosine, angles.sin_()};
}

void rotate_(const at::Tensor& rows, const Rotation& rotation, bool backwards) {
  const int64_t positions = rotation.cosine.size(0), half = rotation.cosine.size(1), width = rows.size(1);
  if (!has_plain_rows(rows) || width % (2 * half) != 0 || rows.size(0) % positions != 0)
    fail_protocol("[rotary] expected contiguous rows of fp32, bf16 or fp16, a multiple of {} positions and of {} values, found {} x {}",
                  positions, 2 * half, rows.size(0), width);
  if (const DeviceKernels* kernels = device_kernels_of(rows)) return kernels->rotate(rows, rotation.cosine, rotation.sine, backwards);
  if (!has_kernels(rows)) {
    rotate_by_operations(rows.view({-1, positions, width / (2 * half), 2, half}), rotation, backwards);
    return;
  }
  const auto *cosine = rotation.cosine.const_data_ptr<float>(), *sine = rotation.sine.const_data_ptr<float>();
  at::parallel_for(0, rows.size(0), std::max<int64_t>(1, kGrainElements / width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t at = r % positions * half;
      const RotaryRow a{element_of(rows, r * width), cosine + at, sine + at, width / (2 * half), half, backwards ? -1.0f : 1.0f};
      HWY_DYNAMIC_DISPATCH(rotate)(rows.scalar_type(), a);
    }
  });
}

}  // namespace zerostep
#endif
