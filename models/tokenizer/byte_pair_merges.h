#pragma once
#include <cstdint>
#include <vector>

namespace zerostep {

// The merge rules of a byte-pair encoding and their application to one piece of text.
class BytePairMerges {
 public:
  struct Rule {
    int32_t left, right, result;
  };
  // Rules in order of rank, the first to be applied first. Of two rules for one pair the first counts.
  explicit BytePairMerges(const std::vector<Rule>& rules);
  // Merges the adjacent pair of lowest rank, the leftmost of equals, until none is left; in place. O(n log n).
  void apply(std::vector<int32_t>& symbols) const;

 private:
  struct Slot {
    uint64_t pair;
    int32_t rank, result;
  };
  const Slot* find(int32_t left, int32_t right) const;
  void apply_scanning(std::vector<int32_t>& symbols) const;
  void apply_with_heap(std::vector<int32_t>& symbols) const;

  std::vector<Slot> slots_;  // open addressing; a power of two of them
  int shift_ = 0;
};

}  // namespace zerostep
