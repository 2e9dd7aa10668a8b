#include "sharding/comm/reduce_kernels.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#include "base/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sharding/comm/reduce_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file again for every target.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "base/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// Element types of sums, which are made in vectors of Tag: load() and store() as in lanes-inl.h, and stream() past the caches.
struct Fp32 : AsFloat {
  using Tag = F32;
  static void stream(VF v, float* p) { hn::Stream(v, F32(), p); }
};
struct Bf16 : AsBFloat16 {
  using Tag = F32;
  static void stream(VF v, uint16_t* p) { hn::Stream(Vector::narrow_bf16(v), Vector::Narrow(), p); }
};
struct Fp16 : AsHalf {
  using Tag = F32;
  static void stream(VF v, uint16_t* p) { hn::Stream(Vector::narrow_fp16(v), Vector::Narrow(), p); }
};
struct Fp64 {
  using T = double;
  using Tag = hn::ScalableTag<double>;
  static hn::Vec<Tag> load(const double* p) { return hn::LoadU(Tag(), p); }
  static void store(hn::Vec<Tag> v, double* p) { hn::StoreU(v, Tag(), p); }
  static void stream(hn::Vec<Tag> v, double* p) { hn::Stream(v, Tag(), p); }
};

struct Sum {
  template <class V>
  static V apply(V a, V b) {
    return hn::Add(a, b);
  }
};
struct Max {
  template <class V>
  static V apply(V a, V b) {
    const auto larger = hn::IfThenElse(hn::Gt(a, b), a, b);  // a NaN in b stays
    return hn::IfThenElse(hn::IsNaN(a), a, larger);
  }
};

// One vector of the result at element i. kSources: their number where it is known when compiling, else 0.
template <class Source, class Op, int kSources = 0>
HWY_INLINE hn::Vec<typename Source::Tag> reduced(const void* const* sources, int num_sources, int64_t i) {
  const auto source = [&](int rank) { return static_cast<const typename Source::T*>(sources[rank]) + i; };
  auto x = Op::apply(Source::load(source(0)), Source::load(source(1)));
  for (int rank = 2; rank < (kSources ? kSources : num_sources); ++rank) x = Op::apply(x, Source::load(source(rank)));
  return x;
}

// Elements of a source that go through in one strip, and strips that go through side by side: several pages at once keep more of the
// memory's prefetchers busy, which is worth a factor of 1.3 to 1.8 on what is not in the cache.
constexpr int64_t kStripElements = 1024;
constexpr int kStrips = 4;

// [begin, end) by kStrips strips side by side, a cache line of the target at a time. end - begin is a multiple of kStrips * kStripElements.
template <class Source, class Target, class Op, bool kAccumulate, bool kPastCache, int kSources>
HWY_INLINE void reduce_strips(const void* const* sources, int num_sources, typename Target::T* target, int64_t begin, int64_t end) {
  const typename Source::Tag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t line = HWY_MAX(lanes, static_cast<int64_t>(64 / sizeof(typename Target::T)));
  for (int64_t block = begin; block < end; block += kStrips * kStripElements) {
    for (int64_t offset = 0; offset < kStripElements; offset += line) {
#pragma GCC unroll 4
      for (int strip = 0; strip < kStrips; ++strip) {
        const int64_t first = block + strip * kStripElements + offset;
        for (int64_t i = first; i < first + line; i += lanes) {
          auto x = reduced<Source, Op, kSources>(sources, num_sources, i);
          if constexpr (kAccumulate) x = hn::Add(Target::load(target + i), x);
          if constexpr (kPastCache)
            Target::stream(x, target + i);
          else
            Target::store(x, target + i);
        }
      }
    }
  }
}

// [i, end) one vector after the other, the last one through a copy of what is left.
template <class Source, class Target, class Op, bool kAccumulate>
HWY_INLINE void reduce_in_order(const void* const* sources, int num_sources, typename Target::T* target, int64_t i, int64_t end) {
  using S = typename Source::T;
  using T = typename Target::T;
  const typename Source::Tag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto one_vector = [&](int64_t at) {
    auto x = num_sources == 1 ? Source::load(static_cast<const S*>(sources[0]) + at) : reduced<Source, Op>(sources, num_sources, at);
    if constexpr (kAccumulate) x = hn::Add(Target::load(target + at), x);
    Target::store(x, target + at);
  };
  for (; i + 2 * lanes <= end; i += 2 * lanes) {
    one_vector(i);
    one_vector(i + lanes);
  }
  for (; i < end; i += lanes) {
    const auto left = static_cast<size_t>(end - i < lanes ? end - i : lanes);
    HWY_ALIGN S in[hn::MaxLanes(d)] = {};
    HWY_ALIGN T out[hn::MaxLanes(d)] = {};
    std::memcpy(in, static_cast<const S*>(sources[0]) + i, left * sizeof(S));
    auto x = Source::load(in);
    for (int rank = 1; rank < num_sources; ++rank) {
      std::memcpy(in, static_cast<const S*>(sources[rank]) + i, left * sizeof(S));
      x = Op::apply(x, Source::load(in));
    }
    if constexpr (kAccumulate) {
      std::memcpy(out, target + i, left * sizeof(T));
      x = hn::Add(Target::load(out), x);
    }
    Target::store(x, out);
    std::memcpy(target + i, out, left * sizeof(T));
  }
}

// Sums of operands that are not in the caches.
template <class Source, class Target, bool kAccumulate, int kSources>
HWY_ATTR int64_t sum_past_cache(const void* const* sources, int num_sources, typename Target::T* target, int64_t count) {
  const auto misaligned = reinterpret_cast<uintptr_t>(target) % static_cast<uintptr_t>(kAlignmentBytes);
  const auto head = static_cast<int64_t>((misaligned ? static_cast<uintptr_t>(kAlignmentBytes) - misaligned : 0) / sizeof(*target));
  if (misaligned % sizeof(*target) != 0 || head >= count) return 0;
  reduce_in_order<Source, Target, Sum, kAccumulate>(sources, num_sources, target, 0, head);
  constexpr int64_t kBlock = kStrips * kStripElements;
  const int64_t end = head + (count - head) / kBlock * kBlock;
  // What is read anyway is not worth going around the cache for.
  bool reads_target = kAccumulate;
  for (int rank = 0; rank < num_sources; ++rank) reads_target |= sources[rank] == target;
  if (reads_target) {
    reduce_strips<Source, Target, Sum, kAccumulate, false, kSources>(sources, num_sources, target, head, end);
  } else if constexpr (!kAccumulate) {
    reduce_strips<Source, Target, Sum, false, true, kSources>(sources, num_sources, target, head, end);
    hwy::FlushStream();
  }
  return end;
}

template <class Source, class Target, class Op, bool kAccumulate>
HWY_ATTR void reduce_all(const void* const* sources, int num_sources, void* target_bytes, int64_t count, bool past_cache) {
  auto* target = static_cast<typename Target::T*>(target_bytes);
  int64_t done = 0;
  if constexpr (std::is_same_v<Op, Sum>) {  // maxima are rare and small
    if (past_cache && num_sources == 2) done = sum_past_cache<Source, Target, kAccumulate, 2>(sources, num_sources, target, count);
    if (past_cache && num_sources > 2) done = sum_past_cache<Source, Target, kAccumulate, 0>(sources, num_sources, target, count);
  }
  reduce_in_order<Source, Target, Op, kAccumulate>(sources, num_sources, target, done, count);
}

template <class Source, class Target>
HWY_ATTR void reduce_types(const void* const* sources, int num_sources, void* target, int64_t count, bool max, bool accumulate,
                           bool past_cache) {
  if (max) return reduce_all<Source, Target, Max, false>(sources, num_sources, target, count, past_cache);
  if (accumulate) return reduce_all<Source, Target, Sum, true>(sources, num_sources, target, count, past_cache);
  reduce_all<Source, Target, Sum, false>(sources, num_sources, target, count, past_cache);
}

HWY_ATTR void Reduce(const void* const* sources, int num_sources, DType source_type, void* target, DType target_type, int64_t count,
                     bool max, bool accumulate, bool past_cache) {
  const auto run = [&](auto source, auto out) {
    reduce_types<decltype(source), decltype(out)>(sources, num_sources, target, count, max, accumulate, past_cache);
  };
  const bool widen = target_type == DType::F32;
  switch (source_type) {
    case DType::F32:
      return run(Fp32(), Fp32());
    case DType::F64:
      return run(Fp64(), Fp64());
    case DType::BF16:
      return widen ? run(Bf16(), Fp32()) : run(Bf16(), Bf16());
    case DType::F16:
      return widen ? run(Fp16(), Fp32()) : run(Fp16(), Fp16());
  }
}

// target is aligned to 64 bytes, num_bytes a multiple of kCopyBlock.
constexpr size_t kCopyBlock = 4 * 4096;
HWY_ATTR void CopyPastCache(uint8_t* HWY_RESTRICT target, const uint8_t* HWY_RESTRICT source, size_t num_bytes) {
  const hn::ScalableTag<uint8_t> d;
  const size_t lanes = hn::Lanes(d), line = HWY_MAX(lanes, size_t{64});
  for (size_t block = 0; block < num_bytes; block += kCopyBlock)
    for (size_t offset = 0; offset < kCopyBlock / kStrips; offset += line)
      for (size_t strip = 0; strip < kStrips; ++strip)
        for (size_t i = block + strip * (kCopyBlock / kStrips) + offset, end = i + line; i < end; i += lanes)
          hn::Stream(hn::LoadU(d, source + i), d, target + i);
  hwy::FlushStream();
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace zerostep {

HWY_EXPORT(Reduce);
HWY_EXPORT(CopyPastCache);

void reduce(const void* const* sources, int num_sources, DType source_type, void* target, DType target_type, int64_t count, ReduceOp op,
            bool accumulate, bool past_cache) {
  if (count <= 0) return;
  if (source_type == DType::F64 && target_type == DType::F32) {
    for (int64_t i = 0; i < count; ++i) {
      double sum = static_cast<const double*>(sources[0])[i];
      for (int rank = 1; rank < num_sources; ++rank) {
        const double value = static_cast<const double*>(sources[rank])[i];
        sum = op == ReduceOp::Sum ? sum + value : std::isnan(sum) || sum > value ? sum : value;
      }
      float& out = static_cast<float*>(target)[i];
      out = static_cast<float>(accumulate ? static_cast<double>(out) + sum : sum);
    }
    return;
  }
  HWY_DYNAMIC_DISPATCH(Reduce)(sources, num_sources, source_type, target, target_type, count, op == ReduceOp::Max, accumulate, past_cache);
}

void copy_bytes(void* target, const void* source, size_t num_bytes, bool past_cache) {
  constexpr size_t kBlock = 4 * 4096;
  auto* to = static_cast<uint8_t*>(target);
  const auto* from = static_cast<const uint8_t*>(source);
  if (past_cache && num_bytes >= 2 * kBlock) {
    const size_t head = static_cast<size_t>(-reinterpret_cast<intptr_t>(to)) % static_cast<size_t>(kAlignmentBytes);
    std::memcpy(to, from, head);
    const size_t body = (num_bytes - head) / kBlock * kBlock;
    HWY_DYNAMIC_DISPATCH(CopyPastCache)(to + head, from + head, body);
    to += head + body;
    from += head + body;
    num_bytes -= head + body;
  }
  if (num_bytes > 0) std::memcpy(to, from, num_bytes);
}

size_t cache_share_bytes() {
  const long second_level = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return second_level > 0 ? static_cast<size_t>(second_level) : size_t{1} << 20;
}

}  // namespace zerostep
#endif
