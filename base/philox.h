#pragma once
#include <cstdint>

#include "base/ieee.h"

namespace zerostep {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): 128 random bits from a 128-bit counter and a
// 64-bit key, without state.
inline constexpr uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

struct PhiloxBlock {
  uint32_t word[4];
};

ZEROSTEP_HOST_DEVICE constexpr PhiloxBlock philox4x32(PhiloxBlock c, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product0 = wide_product(kPhiloxM0, c.word[0]);
    const uint64_t product1 = wide_product(kPhiloxM1, c.word[2]);
    c = {{static_cast<uint32_t>(product1 >> 32) ^ c.word[1] ^ key0, static_cast<uint32_t>(product1),
          static_cast<uint32_t>(product0 >> 32) ^ c.word[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += kPhiloxW0;
    key1 += kPhiloxW1;
  }
  return c;
}

}  // namespace zerostep
