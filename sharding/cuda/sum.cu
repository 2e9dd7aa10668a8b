#include "base/cuda/elements.cuh"
#include "base/cuda/launch.cuh"
#include "base/ieee.h"
#include "sharding/cuda/sum.h"

namespace zerostep::cuda {
namespace {

struct AsF64 {
  using T = double;
  ZEROSTEP_HOST_DEVICE static double value(T x) { return x; }
  ZEROSTEP_HOST_DEVICE static T rounded(double x) { return x; }
};
ZEROSTEP_HOST_DEVICE inline float add(float a, float b) { return ieee_add(a, b); }
ZEROSTEP_HOST_DEVICE inline double add(double a, double b) { return a + b; }
template <typename Value>
ZEROSTEP_HOST_DEVICE Value larger(Value a, Value b) {
  return a != a || a > b ? a : b;  // a NaN in b stays as well
}

// Sums in the type of what is summed, 16-bit values as fp32.
template <typename Source, typename Target>
struct SumOfRanks {
  using Value = decltype(Source::value(typename Source::T()));
  const typename Source::T* own;
  const typename Source::T* others;
  uint64_t stride, count;
  int rank, num_ranks;
  typename Target::T* target;
  bool is_maximum, accumulate;

  ZEROSTEP_HOST_DEVICE void operator()(ThreadIndex index) const {
    for (uint64_t i = index.thread; i < count; i += index.num_threads) {
      Value x = value_of(0, i);
      for (int r = 1; r < num_ranks; ++r) {
        const Value next = value_of(r, i);
        x = is_maximum ? larger(x, next) : add(x, next);
      }
      if (accumulate) x = add(static_cast<Value>(Target::value(target[i])), x);
      target[i] = Target::rounded(static_cast<decltype(Target::value(target[i]))>(x));
    }
  }
  ZEROSTEP_HOST_DEVICE Value value_of(int r, uint64_t i) const {
    return Source::value(r == rank ? own[i] : others[static_cast<uint64_t>(r < rank ? r : r - 1) * stride + i]);
  }
};

template <typename Source, typename Target>
cudaError_t run(const KernelQueue& queue, const RankSum& s) {
  SumOfRanks<Source, Target> body;
  body.own = static_cast<const typename Source::T*>(s.own);
  body.others = static_cast<const typename Source::T*>(s.others);
  body.stride = static_cast<uint64_t>(s.stride);
  body.count = static_cast<uint64_t>(s.count);
  body.rank = s.rank;
  body.num_ranks = s.num_ranks;
  body.target = static_cast<typename Target::T*>(s.target);
  body.is_maximum = s.is_maximum;
  body.accumulate = s.accumulate;
  return launch_threads(queue, s.count, body);
}

}  // namespace

cudaError_t sum(const KernelQueue& queue, const RankSum& s) {
  const bool widens = s.target_type == DType::F32;
  if (s.source_type == DType::F64) return widens ? run<AsF64, AsF32>(queue, s) : run<AsF64, AsF64>(queue, s);
  return with_elements(s.source_type, [&](auto as) {
    using As = decltype(as);
    return widens ? run<As, AsF32>(queue, s) : run<As, As>(queue, s);
  });
}

}  // namespace zerostep::cuda
