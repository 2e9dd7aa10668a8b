#include "offload/host_optimizer.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"
#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "offload/host_optimizer.cpp"
#include <hwy/foreach_target.h>
// The order matters: foreach_target comes first.
#include <hwy/highway.h>

#include "offload/host_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

template <class L, class Copy, class Optimizer>
HWY_INLINE void step_at(const OptimizerPiece& piece, int64_t i, float* state0, float* state1, bool frozen, const Optimizer& optimizer) {
  using V = typename L::V;
  const V before = L::load(piece.master + i);
  const V gradient = L::mul(L::load(piece.gradient + i), L::set(piece.gradient_scale));
  V after;
  if constexpr (Optimizer::kStates == 0) {
    after = optimizer.template update<L>(before, gradient);
  } else if constexpr (Optimizer::kStates == 1) {
    V s0 = L::load(state0 + i);
    after = optimizer.template update<L>(before, gradient, s0);
    L::store(s0, state0 + i);
  } else {
    V s0 = L::load(state0 + i), s1 = L::load(state1 + i);
    after = optimizer.template update<L>(before, gradient, s0, s1);
    L::store(s0, state0 + i);
    L::store(s1, state1 + i);
  }
  if (frozen) {
    after = before;
  } else {
    L::store(after, piece.master + i);
  }
  store_at<Copy, L>(after, piece.compute, i);
}

template <class Copy, class Optimizer>
void step_piece(const OptimizerPiece& piece, float* state0, float* state1, const Optimizer& optimizer) {
  const bool frozen = optimizer.frozen();
  int64_t i = 0;
#if ZEROSTEP_FUSED_VECTORS
  constexpr int64_t kLanes = Vector::kLanes;
  constexpr int64_t kLineElements = kAlignmentBytes / static_cast<int64_t>(sizeof(float));
  for (; i + 2 * kLanes <= piece.count; i += 2 * kLanes) {
    for (int64_t line = 0; line < 2 * kLanes; line += kLineElements) {
      prefetch(piece.master + i + line);
      prefetch(piece.gradient + i + line);
      if constexpr (Optimizer::kStates > 0) prefetch(state0 + i + line);
      if constexpr (Optimizer::kStates > 1) prefetch(state1 + i + line);
    }
    prefetch_at<Copy>(piece.compute, i);
    step_at<Vector, Copy>(piece, i, state0, state1, frozen, optimizer);
    step_at<Vector, Copy>(piece, i + kLanes, state0, state1, frozen, optimizer);
  }
#endif
  for (; i < piece.count; ++i) step_at<Scalar, Copy>(piece, i, state0, state1, frozen, optimizer);
}

template <class Optimizer>
void step_target(const OptimizerPiece& piece, float* state0, float* state1, const Optimizer& optimizer) {
  if (piece.compute == nullptr) return step_piece<NoCopy>(piece, state0, state1, optimizer);
  if (piece.compute_type == DType::F64) fail_protocol("host optimizer: masters cannot be copied to {}", name_of(piece.compute_type));
  dispatch_type(piece.compute_type, [&](auto as) HWY_ATTR { step_piece<decltype(as)>(piece, state0, state1, optimizer); });
}

void adam_target(const OptimizerPiece& piece, float* exp_avg, float* exp_avg_sq, const AdamParameters& p) {
  if (p.decoupled) {
    step_target(piece, exp_avg, exp_avg_sq, Adam<true>(piece, p));
  } else {
    step_target(piece, exp_avg, exp_avg_sq, Adam<false>(piece, p));
  }
}

void sgd_target(const OptimizerPiece& piece, float* buffer, const SgdParameters& p) {
  if (p.momentum == 0) {
    step_target(piece, nullptr, nullptr, Sgd(piece));
  } else {
    step_target(piece, buffer, nullptr, SgdMomentum(piece, p));
  }
}

void lion_target(const OptimizerPiece& piece, float* exp_avg, const LionParameters& p) {
  step_target(piece, exp_avg, nullptr, Lion(piece, p));
}

// Eight streams are read side by side, twice as fast on one core as one: with c = count / 128 * 16, stream s is [s c, (s + 1) c), and a
// line of 16 values is taken of each in turn. Value j of stream s goes to lane 8 (s % 4) + j % 8, value j of the rest to lane j % 32.
// Products of two fp32 values are exact in fp64, so fused or not gives the same sum.
double sum_of_squares_target(const float* values, int64_t count) {
  constexpr int kStreams = 8, kGroups = 4, kGroupLanes = 8, kLanes = kGroups * kGroupLanes;
  constexpr int64_t kLine = 16;
  const int64_t length = count / (kStreams * kLine) * kLine;
  alignas(64) double lane[kLanes] = {};
#if ZEROSTEP_FUSED_VECTORS
  const hn::CappedTag<double, kGroupLanes> d;
  const hn::Rebind<float, decltype(d)> narrow;
  constexpr int kWidth = static_cast<int>(hn::MaxLanes(decltype(d)()));
  constexpr int kParts = kGroupLanes / kWidth;
  hn::Vec<decltype(d)> sum[kGroups * kParts];
  for (auto& part : sum) part = hn::Zero(d);
  for (int64_t line = 0; line < length; line += kLine) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) {
      const float* at = values + s * length + line;
      prefetch(at);
#pragma GCC unroll 8
      for (int k = 0; k < kLine / kWidth; ++k) {
        const auto x = hn::PromoteTo(d, hn::LoadU(narrow, at + k * kWidth));
        auto& part = sum[s % kGroups * kParts + k % kParts];
        part = hn::MulAdd(x, x, part);
      }
    }
  }
  for (int k = 0; k < kGroups * kParts; ++k) hn::Store(sum[k], d, lane + k * kWidth);
#else
  for (int64_t line = 0; line < length; line += kLine) {
    for (int s = 0; s < kStreams; ++s) {
      for (int64_t k = 0; k < kLine; ++k) {
        const double x = load_any(values + s * length + line + k);
        lane[s % kGroups * kGroupLanes + k % kGroupLanes] += x * x;
      }
    }
  }
#endif
  for (int64_t i = kStreams * length; i < count; ++i) {
    const double x = load_any(values + i);
    lane[(i - kStreams * length) % kLanes] += x * x;
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) lane[k] += lane[k + half];
  }
  return lane[0];
}

// Calls f(lanes, i) for every element or vector of elements. Casts of an array larger than the caches go faster as four streams.
template <class F>
HWY_INLINE void for_each_vector(int64_t count, const F& f) {
  int64_t i = 0;
#if ZEROSTEP_FUSED_VECTORS
  constexpr int64_t kStreams = 4, kStep = 2 * Vector::kLanes;
  const int64_t length = count / (kStreams * kStep) * kStep;
  for (int64_t j = 0; j < length; j += kStep) {
#pragma GCC unroll 4
    for (int64_t s = 0; s < kStreams; ++s) {
      f(Vector(), s * length + j);
      f(Vector(), s * length + j + Vector::kLanes);
    }
  }
  i = kStreams * length;
  for (; i + Vector::kLanes <= count; i += Vector::kLanes) f(Vector(), i);
#endif
  for (; i < count; ++i) f(Scalar(), i);
}

template <class From, class To>
void cast_as(const void* source, void* target, int64_t count) {
  for_each_vector(count, [=](auto lanes, int64_t i) HWY_ATTR {
    using L = decltype(lanes);
    prefetch_at<From>(source, i);
    prefetch_at<To>(target, i);
    store_at<To, L>(load_at<From, L>(source, i), target, i);
  });
}
void cast_target(const void* source, DType source_type, void* target, DType target_type, int64_t count) {
  if (source_type == DType::F32)
    dispatch_type(target_type, [&](auto to) HWY_ATTR { cast_as<AsFloat, decltype(to)>(source, target, count); });
  else
    dispatch_type(source_type, [&](auto from) HWY_ATTR { cast_as<decltype(from), AsFloat>(source, target, count); });
}

const char* name_target() {
#if ZEROSTEP_FUSED_VECTORS
  return hwy::TargetName(HWY_TARGET);
#else
  return "SCALAR";
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {
namespace {

HWY_EXPORT(adam_target);
HWY_EXPORT(sgd_target);
HWY_EXPORT(lion_target);
HWY_EXPORT(sum_of_squares_target);
HWY_EXPORT(cast_target);
HWY_EXPORT(name_target);

}  // namespace

void adam_step(const OptimizerPiece& piece, float* exp_avg, float* exp_avg_sq, const AdamParameters& parameters) {
  HWY_DYNAMIC_DISPATCH(adam_target)(piece, exp_avg, exp_avg_sq, parameters);
}

void sgd_step(const OptimizerPiece& piece, float* momentum_buffer, const SgdParameters& parameters) {
  HWY_DYNAMIC_DISPATCH(sgd_target)(piece, momentum_buffer, parameters);
}

void lion_step(const OptimizerPiece& piece, float* exp_avg, const LionParameters& parameters) {
  HWY_DYNAMIC_DISPATCH(lion_target)(piece, exp_avg, parameters);
}

double sum_of_squares(const float* values, int64_t count) { return HWY_DYNAMIC_DISPATCH(sum_of_squares_target)(values, count); }

void cast_from_fp32(const float* source, void* target, DType target_type, int64_t count) {
  if (target_type == DType::F32) {
    if (count > 0) std::memmove(target, source, static_cast<size_t>(num_bytes(count, DType::F32)));
    return;
  }
  if (!is_16bit(target_type)) fail_protocol("host optimizer: no cast from fp32 to {}", name_of(target_type));
  HWY_DYNAMIC_DISPATCH(cast_target)(source, DType::F32, target, target_type, count);
}

void cast_to_fp32(const void* source, DType source_type, float* target, int64_t count) {
  if (source_type == DType::F32) {
    if (count > 0) std::memmove(target, source, static_cast<size_t>(num_bytes(count, DType::F32)));
    return;
  }
  if (!is_16bit(source_type)) fail_protocol("host optimizer: no cast from {} to fp32", name_of(source_type));
  HWY_DYNAMIC_DISPATCH(cast_target)(source, source_type, target, DType::F32, count);
}

const char* host_optimizer_target() { return HWY_DYNAMIC_DISPATCH(name_target)(); }

}  // namespace zerostep
#endif
