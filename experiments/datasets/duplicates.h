#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace zerostep {

// Counts texts that were there before, by 64-bit hashes of them, in bounded memory: of more than kMost different ones a half, a quarter...
// of the hashes is looked at, and the count is an estimate.
class DuplicateCounter {
 public:
  static constexpr size_t kMost = size_t{1} << 21;

  void add(uint64_t hash);
  // Texts that are like an earlier one.
  int64_t duplicates() const { return repeats_ << skipped_bits_; }
  bool is_exact() const { return skipped_bits_ == 0; }

 private:
  struct Slot {
    uint64_t hash = 0;  // 0: free
    int64_t repeats = 0;
  };
  bool is_looked_at(uint64_t hash) const { return (hash & ((uint64_t{1} << skipped_bits_) - 1)) == 0; }
  Slot& slot_of(uint64_t hash);
  void look_at_half();

  std::vector<Slot> slots_ = std::vector<Slot>(2 * kMost);
  size_t used_ = 0;
  int skipped_bits_ = 0;
  int64_t repeats_ = 0;
};

}  // namespace zerostep
