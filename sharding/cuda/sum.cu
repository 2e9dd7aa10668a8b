#include <algorithm>

#include "base/cuda/launch.cuh"
#include "base/half.h"
#include "sharding/cuda/sum.h"

namespace zerostep::cuda {
namespace {

// Elements as they lie in memory (T), and as they are summed (Value).
struct Fp32 {
  using T = float;
  using Value = float;
  ZEROSTEP_HOST_DEVICE static float load(T x) { return x; }
  ZEROSTEP_HOST_DEVICE static T store(float x) { return x; }
};
struct Bf16 {
  using T = uint16_t;
  using Value = float;
  ZEROSTEP_HOST_DEVICE static float load(T x) { return fp32_from_bf16(x); }
  ZEROSTEP_HOST_DEVICE static T store(float x) { return bf16_from_fp32(x); }
};
struct Fp16 {
  using T = uint16_t;
  using Value = float;
  ZEROSTEP_HOST_DEVICE static float load(T x) { return fp32_from_fp16(x); }
  ZEROSTEP_HOST_DEVICE static T store(float x) { return fp16_from_fp32(x); }
};
struct Fp64 {
  using T = double;
  using Value = double;
  ZEROSTEP_HOST_DEVICE static double load(T x) { return x; }
  ZEROSTEP_HOST_DEVICE static T store(double x) { return x; }
};

ZEROSTEP_HOST_DEVICE inline float add(float a, float b) { return ieee_add(a, b); }
ZEROSTEP_HOST_DEVICE inline double add(double a, double b) { return a + b; }
template <typename Value>
ZEROSTEP_HOST_DEVICE Value larger(Value a, Value b) {
  return a != a || a > b ? a : b;  // a NaN in b stays as well
}

template <typename Source, typename Target>
struct SumOfRanks {
  const typename Source::T* own;
  const typename Source::T* others;
  uint64_t stride, count;
  int rank, num_ranks;
  typename Target::T* target;
  bool is_maximum, accumulate;

  ZEROSTEP_HOST_DEVICE void operator()(ThreadIndex index) const {
    for (uint64_t i = index.thread; i < count; i += index.num_threads) {
      auto x = value_of(0, i);
      for (int r = 1; r < num_ranks; ++r) {
        const auto next = value_of(r, i);
        x = is_maximum ? larger(x, next) : add(x, next);
      }
      using Value = typename Source::Value;
      if (accumulate) x = add(static_cast<Value>(Target::load(target[i])), x);
      target[i] = Target::store(static_cast<typename Target::Value>(x));
    }
  }
  ZEROSTEP_HOST_DEVICE typename Source::Value value_of(int r, uint64_t i) const {
    return Source::load(r == rank ? own[i] : others[static_cast<uint64_t>(r < rank ? r : r - 1) * stride + i]);
  }
};

template <typename Source, typename Target>
cudaError_t run(cudaStream_t stream, unsigned max_blocks, const RankSum& s) {
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
  const uint64_t blocks = (body.count + kThreadsPerBlock - 1) / kThreadsPerBlock;
  return launch(stream, static_cast<unsigned>(std::min<uint64_t>(blocks, max_blocks)), body);
}

}  // namespace

cudaError_t sum(cudaStream_t stream, unsigned max_blocks, const RankSum& s) {
  const bool widens = s.target_type == DType::F32;
  switch (s.source_type) {
    case DType::F32:
      return run<Fp32, Fp32>(stream, max_blocks, s);
    case DType::F64:
      return widens ? run<Fp64, Fp32>(stream, max_blocks, s) : run<Fp64, Fp64>(stream, max_blocks, s);
    case DType::BF16:
      return widens ? run<Bf16, Fp32>(stream, max_blocks, s) : run<Bf16, Bf16>(stream, max_blocks, s);
    case DType::F16:
      return widens ? run<Fp16, Fp32>(stream, max_blocks, s) : run<Fp16, Fp16>(stream, max_blocks, s);
  }
  return cudaErrorInvalidValue;
}

}  // namespace zerostep::cuda
