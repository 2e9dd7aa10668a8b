#include "runtime/data/permutation.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/noise.h"

namespace zerostep {
namespace {

// Four make a strong permutation of a large domain; small ones need more to be even.
constexpr uint32_t kRounds = 8;
// Over halves of two bits the orders of four or five samples are measurably uneven, however many rounds there are.
constexpr int kMinHalfBits = 3;

}  // namespace

Permutation::Permutation(int64_t size, uint64_t seed, int64_t epoch)
    : size_(static_cast<uint64_t>(size)), seed_(seed), epoch_(static_cast<uint64_t>(epoch)) {
  if (size < 1 || epoch < 0)
    fail_protocol("a permutation of {} samples in epoch {} was asked for; at least 1 and epoch 0 are expected", size, epoch);
  half_bits_ = std::max(kMinHalfBits, static_cast<int>(std::bit_width(size_ - 1) + 1) / 2);
}

uint64_t Permutation::encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_, right = value & mask;
  for (uint32_t round = 0; round < kRounds; ++round) {
    uint32_t bits = 0;
    fill_bits({.seed = seed_, .tag = NoiseTag::Permutation, .step = epoch_, .stream = round}, right, 1, &bits);
    const uint64_t next = left ^ (bits & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t index) const {
  if (index < 0 || static_cast<uint64_t>(index) >= size_) fail_protocol("sample {} of a permutation of {}", index, size_);
  auto value = static_cast<uint64_t>(index);
  do {
    value = encrypt(value);
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

}  // namespace zerostep
