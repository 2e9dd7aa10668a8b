// The noise of noise_math.h, a tile at a time, in vectors where they are fused (lanes-inl.h). Included once for every dispatch target, as
// Highway's -inl headers are.
#if defined(ZEROSTEP_BASE_NOISE_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ZEROSTEP_BASE_NOISE_SIMD_INL_H_
#undef ZEROSTEP_BASE_NOISE_SIMD_INL_H_
#else
#define ZEROSTEP_BASE_NOISE_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <type_traits>

#include "base/lanes-inl.h"
#include "base/noise_math.h"

HWY_BEFORE_NAMESPACE();
namespace zerostep {
namespace HWY_NAMESPACE {

// What the blocks of one key have in common while the upper bits of the block index stay the same: everything but c0. Half of
// the first two rounds does not depend on c0 either.
class NoiseTiles {
 public:
  // Serves all blocks whose bits above the lower 32 are those of `block`.
  NoiseTiles(const NoiseKey& key, uint64_t block) : key_(key) {
    const PhiloxBlock c = noise_counter(key, block);
    for (int round = 0; round < kPhiloxRounds; ++round) {
      key0_[round] = static_cast<uint32_t>(key.seed) + static_cast<uint32_t>(round) * kPhiloxW0;
      key1_[round] = static_cast<uint32_t>(key.seed >> 32) + static_cast<uint32_t>(round) * kPhiloxW1;
    }
    const uint64_t product1 = uint64_t{kPhiloxM1} * c.word[2];
    const uint32_t c0_after1 = static_cast<uint32_t>(product1 >> 32) ^ c.word[1] ^ key0_[0];
    const uint32_t c1_after1 = static_cast<uint32_t>(product1);
    const uint64_t product0 = uint64_t{kPhiloxM0} * c0_after1;
    round1_c2_ = c.word[3] ^ key1_[0];
    round2_c0_ = c1_after1 ^ key0_[1];
    round2_c2_ = static_cast<uint32_t>(product0 >> 32) ^ key1_[1];
    round2_c3_ = static_cast<uint32_t>(product0);
  }

#if ZEROSTEP_FUSED_VECTORS
  using U = hn::CappedTag<uint32_t, kNoiseBlocksPerTile>;
  using I = hn::RebindToSigned<U>;
  using F = hn::RebindToFloat<U>;
  using VU = hn::Vec<U>;
  using VF = hn::Vec<F>;
  static constexpr int kLanes = static_cast<int>(hn::MaxLanes(U()));
  // Tiles worked on together. Philox and the logarithm are chains of dependent operations: several of them must be under way to keep
  // the units busy, as many as registers allow.
  static constexpr int kTilesTogether = kLanes >= 16 ? 2 : 1;

  template <int kTiles>
  HWY_INLINE void bits(uint64_t tile, uint32_t* HWY_RESTRICT out) const {
    for_words<kTiles>(tile, kNoiseTile, [out](const auto& w, size_t at, auto count, size_t stride) HWY_ATTR {
      constexpr int kCount = decltype(count)::value;
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
#pragma GCC unroll 4
        for (int i = 0; i < kCount; ++i) StoreU(w.word[k][i], U(), out + at + 16 * k + stride * i);
      }
    });
  }

  // Calls use(z, i) for every vector of the tiles: elements [i, i + kLanes) of theirs.
  template <int kTiles, typename Use>
  HWY_INLINE void visit_normals(uint64_t tile, const Use& use) const {
    for_words<kTiles>(tile, kNoiseTile, [&](const auto& w, size_t at, auto count, size_t stride) HWY_ATTR {
      constexpr int kCount = decltype(count)::value;
#pragma GCC unroll 4
      for (int k = 0; k < 4; k += 2) {
        VF z0[kCount], z1[kCount];
        normal_pairs<kCount>(w.word[k], w.word[k + 1], z0, z1);
#pragma GCC unroll 4
        for (int i = 0; i < kCount; ++i) {
          use(z0[i], at + 16 * k + stride * i);
          use(z1[i], at + 16 * k + 16 + stride * i);
        }
      }
    });
  }
  template <int kTiles>
  HWY_INLINE void normals(uint64_t tile, float* HWY_RESTRICT out) const {
    visit_normals<kTiles>(tile, [out](VF z, size_t i) HWY_ATTR { StoreU(z, F(), out + i); });
  }

  template <int kTiles, typename Use>
  HWY_INLINE void visit_signs(uint64_t tile, const Use& use) const {
    for_words<kTiles>(tile, kNoiseSignTile, [&](const auto& w, size_t at, auto count, size_t stride) HWY_ATTR {
      for (int i = 0; i < decltype(count)::value; ++i) {
        for (int k = 0; k < 4; ++k) {
          VU word = w.word[k][i];
#pragma GCC unroll 8
          for (int j = 0; j < 32; ++j) {
            const VU value = hn::OrAnd(Set(U(), 0x3F800000u), word, Set(U(), 0x80000000u));
            use(hn::BitCast(F(), value), at + stride * i + 512 * k + 16 * j);
            word = Add(word, word);
          }
        }
      }
    });
  }
  template <int kTiles>
  HWY_INLINE void signs(uint64_t tile, float* HWY_RESTRICT out) const {
    visit_signs<kTiles>(tile, [out](VF z, size_t i) HWY_ATTR { StoreU(z, F(), out + i); });
  }
  // Signs [begin, end) of the tile, both multiples of 16.
  HWY_INLINE void signs(uint64_t tile, uint64_t begin, uint64_t end, float* HWY_RESTRICT out) const {
    for_words<1>(tile, kNoiseSignTile, [=](const auto& w, size_t at, auto, size_t) HWY_ATTR {
      for (uint64_t i = begin; i < end; i += 16) {
        const VU word = hn::ShiftLeftSame(w.word[i / 512][0], static_cast<int>(i % 512 / 16));
        StoreU(hn::BitCast(F(), hn::OrAnd(Set(U(), 0x3F800000u), word, Set(U(), 0x80000000u))), F(), out + (i - begin) + at);
      }
    });
  }

 private:
  template <int kCount>
  struct Words {
    VU word[4][kCount];
  };

  // Calls use(words, at, count, stride): vector i of `count` belongs to elements at + stride * i and on.
  template <int kTiles, typename Use>
  HWY_INLINE void for_words(uint64_t tile, size_t tile_size, const Use& use) const {
    const auto first = static_cast<uint32_t>(tile * kNoiseBlocksPerTile);
    for (int b = 0; b < static_cast<int>(kNoiseBlocksPerTile); b += kLanes) {
      Words<kTiles> w;
      words(first + static_cast<uint32_t>(b), w);
      use(w, static_cast<size_t>(b), std::integral_constant<int, kTiles>(), tile_size);
    }
  }

  // Vector i: the words of blocks first + 16 i, first + 16 i + 1, ... 32-bit products live in 64-bit lanes, so even and odd blocks
  // are worked on apart and interleaved at the end.
  template <int kCount>
  HWY_INLINE void words(uint32_t first, Words<kCount>& out) const {
    const U d;
    const hn::RepartitionToWide<U> wide;
    Words<2 * kCount> state;
    const VU index = Add(Set(d, first), Iota(d, 0));
#pragma GCC unroll 4
    for (int i = 0; i < kCount; ++i) {
      state.word[0][2 * i] = i == 0 ? index : Add(index, Set(d, kNoiseBlocksPerTile * i));
      state.word[0][2 * i + 1] = hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, state.word[0][2 * i])));
    }
    rounds(state);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) {
        out.word[k][i] = hn::OddEven(hn::DupEven(state.word[k][2 * i + 1]), state.word[k][2 * i]);
      }
    }
  }

  // From c0 to the words. Upper halves of 64-bit lanes hold left-overs throughout: the multiplication does not read them.
  template <int kCount>
  HWY_INLINE void rounds(Words<kCount>& state) const {
    const U d;
    const VU m0 = Set(d, kPhiloxM0), m1 = Set(d, kPhiloxM1);
    // A shuffle, not a shift: x86 shifts on one of the ports that multiply.
    const auto high = [d](auto product) HWY_ATTR { return hn::DupOdd(hn::BitCast(d, product)); };
    const auto low = [d](auto product) HWY_ATTR { return hn::BitCast(d, product); };
    auto& c = state.word;
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      const auto product1 = hn::MulEven(c[0][i], m0);
      const auto product2 = hn::MulEven(Xor(high(product1), Set(d, round1_c2_)), m1);
      c[0][i] = Xor(high(product2), Set(d, round2_c0_));
      c[1][i] = low(product2);
      c[2][i] = Xor(low(product1), Set(d, round2_c2_));
      c[3][i] = Set(d, round2_c3_);
    }
#pragma GCC unroll 8
    for (int round = 2; round < kPhiloxRounds; ++round) {
      const VU key0 = Set(d, key0_[round]), key1 = Set(d, key1_[round]);
#pragma GCC unroll 8
      for (int i = 0; i < kCount; ++i) {
        const auto product0 = hn::MulEven(c[0][i], m0);
        const auto product1 = hn::MulEven(c[2][i], m1);
        c[0][i] = hn::Xor3(high(product1), c[1][i], key0);
        c[1][i] = low(product1);
        c[2][i] = hn::Xor3(high(product0), c[3][i], key1);
        c[3][i] = low(product0);
      }
    }
  }

  // normal_pair of noise_math.h, kCount vectors side by side.
  template <int kCount>
  static HWY_INLINE void normal_pairs(const VU* radius, const VU* angle, VF* first, VF* second) {
    const U u;
    const I i;
    const F f;
    constexpr NoiseCoefficients p = noise_coefficients();
    VF exponent[kCount], m[kCount], log[kCount], z[kCount], s[kCount], c[kCount];
#pragma GCC unroll 4
    for (int n = 0; n < kCount; ++n) {
      const VF x = Add(hn::ConvertTo(f, hn::BitCast(i, hn::ShiftRight<1>(radius[n]))), Set(f, 0.5f));
      const VU shifted = Sub(hn::BitCast(u, x), Set(u, kNoiseSqrtHalfTimes2To31Bits));
      exponent[n] = hn::ConvertTo(f, hn::ShiftRight<23>(hn::BitCast(i, shifted)));
      const VU mantissa = Add(And(shifted, Set(u, 0x007FFFFFu)), Set(u, kNoiseSqrtHalfBits));
      m[n] = Add(hn::BitCast(f, mantissa), Set(f, -1.0f));
      log[n] = Set(f, p.log[0]);
    }
#pragma GCC unroll 8
    for (int k = 1; k < 8; ++k) {
#pragma GCC unroll 4
      for (int n = 0; n < kCount; ++n) log[n] = MulAdd(log[n], m[n], Set(f, p.log[k]));
    }
#pragma GCC unroll 4
    for (int n = 0; n < kCount; ++n) {
      log[n] = Sqrt(MulAdd(exponent[n], Set(f, kNoiseMinus2Ln2), Mul(log[n], m[n])));
      m[n] = Mul(hn::ConvertTo(f, hn::BitCast(i, hn::ShiftLeft<2>(angle[n]))), Set(f, kNoiseTwoToMinus31));
      z[n] = Mul(m[n], m[n]);
      s[n] = MulAdd(Set(f, p.sin[0]), z[n], Set(f, p.sin[1]));
      c[n] = MulAdd(Set(f, p.cos[0]), z[n], Set(f, p.cos[1]));
    }
#pragma GCC unroll 4
    for (int n = 0; n < kCount; ++n) {
      s[n] = MulAdd(s[n], z[n], Set(f, p.sin[2]));
      c[n] = MulAdd(c[n], z[n], Set(f, p.cos[2]));
    }
#pragma GCC unroll 4
    for (int n = 0; n < kCount; ++n) {
      s[n] = Mul(m[n], MulAdd(s[n], z[n], Set(f, p.sin[3])));
      c[n] = MulAdd(c[n], z[n], Set(f, 1.0f));
      // The cosine is positive here.
      c[n] = hn::BitCast(f, hn::OrAnd(hn::BitCast(u, c[n]), angle[n], Set(u, 0x80000000u)));
      const auto exchange = hn::RebindMask(f, hn::TestBit(angle[n], Set(u, 0x40000000u)));
      first[n] = Mul(log[n], hn::IfThenElse(exchange, s[n], c[n]));
      second[n] = Mul(log[n], hn::IfThenElse(exchange, c[n], s[n]));
    }
  }
#else
  static constexpr int kTilesTogether = 1;
  template <int kTiles>
  void bits(uint64_t tile, uint32_t* out) const {
    for (uint64_t b = 0; b < kNoiseBlocksPerTile; ++b) {
      const PhiloxBlock w = noise_block(key_, tile * kNoiseBlocksPerTile + b);
      for (int k = 0; k < 4; ++k) out[16 * k + b] = w.word[k];
    }
  }
  template <int kTiles, typename Use>
  void visit_normals(uint64_t tile, const Use& use) const {
    for (uint64_t b = 0; b < kNoiseBlocksPerTile; ++b) {
      const PhiloxBlock w = noise_block(key_, tile * kNoiseBlocksPerTile + b);
      for (int k = 0; k < 4; k += 2) {
        const NormalPair z = normal_pair(w.word[k], w.word[k + 1]);
        use(z.first, 16 * k + b);
        use(z.second, 16 * k + 16 + b);
      }
    }
  }
  template <int kTiles>
  void normals(uint64_t tile, float* out) const {
    visit_normals<kTiles>(tile, [out](float z, size_t i) { out[i] = z; });
  }
  template <int kTiles, typename Use>
  void visit_signs(uint64_t tile, const Use& use) const {
    for (uint64_t b = 0; b < kNoiseBlocksPerTile; ++b) {
      const PhiloxBlock w = noise_block(key_, tile * kNoiseBlocksPerTile + b);
      for (int k = 0; k < 4; ++k) {
        for (int j = 0; j < 32; ++j) use(float_of_bits((w.word[k] << j & 0x80000000u) | 0x3F800000u), 512 * k + 16 * j + b);
      }
    }
  }
  template <int kTiles>
  void signs(uint64_t tile, float* out) const {
    visit_signs<kTiles>(tile, [out](float z, size_t i) { out[i] = z; });
  }
  void signs(uint64_t tile, uint64_t begin, uint64_t end, float* out) const {
    visit_signs<1>(tile, [=](float z, size_t i) {
      if (i >= begin && i < end) out[i - begin] = z;
    });
  }

 private:
#endif
  [[maybe_unused]] NoiseKey key_;
  uint32_t key0_[kPhiloxRounds], key1_[kPhiloxRounds];
  uint32_t round1_c2_, round2_c0_, round2_c2_, round2_c3_;
};

// Visits elements [begin, begin + count), kTogether whole tiles at a time where there are as many: use(tiles, tile, number, skip, n, at)
// for elements [skip, skip + n) of the `number` (an integral_constant) tiles from `tile` on, the first of which is begin + at.
template <uint64_t kTile, uint64_t kTogether, typename Use>
HWY_INLINE void for_tiles(const NoiseKey& key, uint64_t begin, int64_t count, const Use& use) {
  constexpr uint64_t kSegment = (uint64_t{1} << 32) / kNoiseBlocksPerTile * kTile;
  const uint64_t end = begin + static_cast<uint64_t>(count);
  for (uint64_t next = begin; next < end;) {
    const NoiseTiles tiles(key, next / kTile * kNoiseBlocksPerTile);
    const uint64_t remainder = kSegment - next % kSegment;
    const uint64_t segment_end = end - next < remainder ? end : next + remainder;
    while (next < segment_end) {
      const uint64_t skip = next % kTile, left = segment_end - next;
      if (skip == 0 && left >= kTogether * kTile) {
        use(tiles, next / kTile, std::integral_constant<int, kTogether>(), uint64_t{0}, kTogether * kTile, next - begin);
        next += kTogether * kTile;
      } else {
        const uint64_t n = left < kTile - skip ? left : kTile - skip;
        use(tiles, next / kTile, std::integral_constant<int, 1>(), skip, n, next - begin);
        next += n;
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace zerostep
HWY_AFTER_NAMESPACE();

#endif
