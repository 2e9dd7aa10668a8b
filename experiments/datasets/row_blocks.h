#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace zerostep {

// How often each of kKinds kinds of words (or tokens: those whose hashes begin alike) occurs in blocks of so many rows in a row. There are
// at most kMostBlocks: where there would be more, two blocks become one.
class RowBlocks {
 public:
  static constexpr size_t kKinds = 4096, kMostBlocks = 1024;

  // Of the next row.
  void add_row(std::span<const uint16_t> kinds);
  int64_t num_rows() const { return num_rows_; }
  // The blocks in `parts` parts, in order, or in an order drawn by `seed`: the counts of each part.
  std::vector<std::vector<uint32_t>> parts(int64_t parts) const;
  std::vector<std::vector<uint32_t>> shuffled_parts(int64_t parts, uint64_t seed) const;

 private:
  std::vector<std::vector<uint32_t>> parts_of(int64_t parts, const std::vector<size_t>& order) const;

  std::vector<std::vector<uint32_t>> blocks_;
  int64_t rows_of_block_ = 1, num_rows_ = 0;
};

}  // namespace zerostep
