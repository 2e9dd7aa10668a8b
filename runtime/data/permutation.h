#pragma once
#include <cstdint>

namespace zerostep {

// A pseudo-random permutation of 0..size-1 that depends on (seed, epoch, size) alone. No table: a balanced Feistel network over the next
// even power of two, keyed by Philox noise, and cycle walking back into the range (Black and Rogaway, "Ciphers with arbitrary finite
// domains", 2002).
class Permutation {
 public:
  // size >= 1.
  Permutation(int64_t size, uint64_t seed, int64_t epoch);
  int64_t operator()(int64_t index) const;

 private:
  uint64_t encrypt(uint64_t value) const;

  uint64_t size_, seed_, epoch_;
  int half_bits_;
};

}  // namespace zerostep
