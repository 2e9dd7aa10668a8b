#include "sharding/comm/reduce_kernels.h"

#include <unistd.h>

#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sharding/comm/reduce_kernels.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which includes this file again for every target.
#include <hwy/cache_control.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using U = hn::RebindToUnsigned<F>;
using H = hn::Rebind<uint16_t, F>;

// Loads and stores of one element type as vectors of the type that sums are made in.
struct Fp32 {
  using Element = float;
  using Tag = F;
  static hn::Vec<F> load(const float* p) { return hn::LoadU(F(), p); }
  static void store(hn::Vec<F> v, float* p) { hn::StoreU(v, F(), p); }
};

struct Fp64 {
  using Element = double;
  using Tag = hn::ScalableTag<double>;
  static hn::Vec<Tag> load(const double* p) { return hn::LoadU(Tag(), p); }
  static void store(hn::Vec<Tag> v, double* p) { hn::StoreU(v, Tag(), p); }
};

struct Bf16 {
  using Element = uint16_t;
  using Tag = F;
  static hn::Vec<F> load(const uint16_t* p) { return hn::BitCast(F(), hn::ShiftLeft<16>(hn::PromoteTo(U(), hn::LoadU(H(), p)))); }
  static void store(hn::Vec<F> v, uint16_t* p) {
    const auto bits = hn::BitCast(U(), v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(U(), 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(U(), 0x7fff)), odd));
    const auto nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(U(), 0x40));
    const auto result = hn::IfThenElse(hn::RebindMask(U(), hn::IsNaN(v)), nan, rounded);
    const hn::Rebind<int32_t, F> i32;
    hn::StoreU(hn::DemoteTo(H(), hn::BitCast(i32, result)), H(), p);
  }
};

struct Fp16 {
  using Element = uint16_t;
  using Tag = F;
#if HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)
  using Half = hn::Rebind<hwy::float16_t, F>;
  static hn::Vec<F> load(const uint16_t* p) { return hn::PromoteTo(F(), hn::BitCast(Half(), hn::LoadU(H(), p))); }
  static void store(hn::Vec<F> v, uint16_t* p) { hn::StoreU(hn::BitCast(H(), hn::DemoteTo(Half(), v)), H(), p); }
#else  // the same bits without F16C
  using I = hn::RebindToSigned<F>;
  static hn::Vec<I> bits_if(hn::Mask<I> mask, hn::Vec<I> yes, hn::Vec<I> no) { return hn::IfThenElse(mask, yes, no); }
  static hn::Vec<F> load(const uint16_t* p) {
    const auto half = hn::BitCast(I(), hn::PromoteTo(U(), hn::LoadU(H(), p)));
    const auto sign = hn::ShiftLeft<16>(hn::And(half, hn::Set(I(), 0x8000)));
    const auto rest = hn::And(half, hn::Set(I(), 0x7fff));
    const auto moved = hn::ShiftLeft<13>(rest);
    // Exponent and mantissa moved up and scaled by 2^112: exact, subnormals included.
    auto result = hn::BitCast(I(), hn::Mul(hn::BitCast(F(), moved), hn::Set(F(), 5.192296858534828e33f)));
    result = bits_if(hn::Gt(rest, hn::Set(I(), 0x7bff)), hn::Or(moved, hn::Set(I(), 0x7f800000)), result);
    result = bits_if(hn::Gt(rest, hn::Set(I(), 0x7c00)), hn::Or(result, hn::Set(I(), 0x400000)), result);
    return hn::BitCast(F(), hn::Or(result, sign));
  }
  static void store(hn::Vec<F> v, uint16_t* p) {
    const auto bits = hn::BitCast(I(), v);
    const auto sign = hn::BitCast(I(), hn::ShiftRight<16>(hn::And(hn::BitCast(U(), v), hn::Set(U(), 0x80000000u))));
    const auto rest = hn::And(bits, hn::Set(I(), 0x7fffffff));
    // Normal results: rebias the exponent and round to nearest even on the 13 bits that go.
    const auto odd = hn::And(hn::ShiftRight<13>(rest), hn::Set(I(), 1));
    const auto normal = hn::ShiftRight<13>(hn::Add(hn::Add(rest, hn::Set(I(), 0xfff - (112 << 23))), odd));
    // Subnormal results: adding 0.5 makes the adder round at 2^-24.
    const auto subnormal = hn::Sub(hn::BitCast(I(), hn::Add(hn::BitCast(F(), rest), hn::Set(F(), 0.5f))), hn::Set(I(), 0x3f000000));
    auto result = bits_if(hn::Lt(rest, hn::Set(I(), 113 << 23)), subnormal, normal);
    result = bits_if(hn::Gt(rest, hn::Set(I(), 0x477fefff)), hn::Set(I(), 0x7c00), result);  // 65520 and more
    const auto nan = hn::Or(hn::And(hn::ShiftRight<13>(rest), hn::Set(I(), 0x3ff)), hn::Set(I(), 0x7e00));
    result = hn::Or(bits_if(hn::Gt(rest, hn::Set(I(), 0x7f800000)), nan, result), sign);
    hn::StoreU(hn::DemoteTo(H(), result), H(), p);
  }
#endif
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

template <class Source, class Target, class Op, bool kAccumulate>
HWY_ATTR void reduce_all(const void* const* sources, int num_sources, void* target_bytes, int64_t count) {
  using S = typename Source::Element;
  using T = typename Target::Element;
  auto* target = static_cast<T*>(target_bytes);
  const auto lanes = static_cast<int64_t>(hn::Lanes(typename Source::Tag()));
  const auto source = [&](int rank) { return static_cast<const S*>(sources[rank]); };

  int64_t i = 0;
  if (num_sources == 2) {
    const S *a = source(0), *b = source(1);
    for (; i + 2 * lanes <= count; i += 2 * lanes) {
      auto x = Op::apply(Source::load(a + i), Source::load(b + i));
      auto y = Op::apply(Source::load(a + i + lanes), Source::load(b + i + lanes));
      if constexpr (kAccumulate) {
        x = hn::Add(Target::load(target + i), x);
        y = hn::Add(Target::load(target + i + lanes), y);
      }
      Target::store(x, target + i);
      Target::store(y, target + i + lanes);
    }
  } else {
    for (; i + 4 * lanes <= count; i += 4 * lanes) {
      const S* s = source(0) + i;
      auto x0 = Source::load(s), x1 = Source::load(s + lanes), x2 = Source::load(s + 2 * lanes), x3 = Source::load(s + 3 * lanes);
      for (int rank = 1; rank < num_sources; ++rank) {
        s = source(rank) + i;
        x0 = Op::apply(x0, Source::load(s));
        x1 = Op::apply(x1, Source::load(s + lanes));
        x2 = Op::apply(x2, Source::load(s + 2 * lanes));
        x3 = Op::apply(x3, Source::load(s + 3 * lanes));
      }
      T* t = target + i;
      if constexpr (kAccumulate) {
        x0 = hn::Add(Target::load(t), x0);
        x1 = hn::Add(Target::load(t + lanes), x1);
        x2 = hn::Add(Target::load(t + 2 * lanes), x2);
        x3 = hn::Add(Target::load(t + 3 * lanes), x3);
      }
      Target::store(x0, t);
      Target::store(x1, t + lanes);
      Target::store(x2, t + 2 * lanes);
      Target::store(x3, t + 3 * lanes);
    }
  }
  for (; i < count; i += lanes) {  // whole vectors, the last one through a copy of what is left
    const auto left = static_cast<size_t>(count - i < lanes ? count - i : lanes);
    HWY_ALIGN S in[hn::MaxLanes(typename Source::Tag())] = {};
    HWY_ALIGN T out[hn::MaxLanes(typename Source::Tag())] = {};
    std::memcpy(in, source(0) + i, left * sizeof(S));
    auto x = Source::load(in);
    for (int rank = 1; rank < num_sources; ++rank) {
      std::memcpy(in, source(rank) + i, left * sizeof(S));
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

template <class Source, class Target>
HWY_ATTR void reduce_types(const void* const* sources, int num_sources, void* target, int64_t count, bool max, bool accumulate) {
  if (max) return reduce_all<Source, Target, Max, false>(sources, num_sources, target, count);
  if (accumulate) return reduce_all<Source, Target, Sum, true>(sources, num_sources, target, count);
  reduce_all<Source, Target, Sum, false>(sources, num_sources, target, count);
}

HWY_ATTR void Reduce(const void* const* sources, int num_sources, DType source_type, void* target, DType target_type, int64_t count,
                     bool max, bool accumulate) {
  const bool widen = target_type == DType::F32;
  switch (source_type) {
    case DType::F32:
      return reduce_types<Fp32, Fp32>(sources, num_sources, target, count, max, accumulate);
    case DType::F64:
      return reduce_types<Fp64, Fp64>(sources, num_sources, target, count, max, accumulate);
    case DType::BF16:
      return widen ? reduce_types<Bf16, Fp32>(sources, num_sources, target, count, max, accumulate)
                   : reduce_types<Bf16, Bf16>(sources, num_sources, target, count, max, accumulate);
    case DType::F16:
      return widen ? reduce_types<Fp16, Fp32>(sources, num_sources, target, count, max, accumulate)
                   : reduce_types<Fp16, Fp16>(sources, num_sources, target, count, max, accumulate);
  }
}

// target is aligned to 64 bytes, num_bytes a multiple of 256.
HWY_ATTR void CopyPastCache(uint8_t* HWY_RESTRICT target, const uint8_t* HWY_RESTRICT source, size_t num_bytes) {
  const hn::ScalableTag<uint8_t> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < num_bytes; i += 4 * lanes) {
    const auto a = hn::LoadU(d, source + i), b = hn::LoadU(d, source + i + lanes);
    const auto c = hn::LoadU(d, source + i + 2 * lanes), e = hn::LoadU(d, source + i + 3 * lanes);
    hn::Stream(a, d, target + i);
    hn::Stream(b, d, target + i + lanes);
    hn::Stream(c, d, target + i + 2 * lanes);
    hn::Stream(e, d, target + i + 3 * lanes);
  }
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
            bool accumulate) {
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
  HWY_DYNAMIC_DISPATCH(Reduce)(sources, num_sources, source_type, target, target_type, count, op == ReduceOp::Max, accumulate);
}

void copy_bytes(void* target, const void* source, size_t num_bytes, bool past_cache) {
  constexpr size_t kBlock = 256;
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

size_t last_level_cache_bytes() {
  for (const int level : {_SC_LEVEL4_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE}) {
    const long bytes = sysconf(level);
    if (bytes > 0) return static_cast<size_t>(bytes);
  }
  return size_t{32} << 20;
}

}  // namespace zerostep
#endif
