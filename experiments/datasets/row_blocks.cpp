#include "experiments/datasets/row_blocks.h"

#include <algorithm>
#include <numeric>

#include "base/nth.h"
#include "runtime/data/permutation.h"

namespace zerostep {

void RowBlocks::add_row(std::span<const uint16_t> kinds) {
  if (num_rows_ == rows_of_block_ * static_cast<int64_t>(kMostBlocks)) {
    for (size_t i = 0; i < blocks_.size() / 2; ++i) {
      std::transform(blocks_[2 * i].begin(), blocks_[2 * i].end(), blocks_[2 * i + 1].begin(), blocks_[2 * i].begin(), std::plus<>());
      if (i > 0) blocks_[i] = std::move(blocks_[2 * i]);
    }
    blocks_.resize(blocks_.size() / 2);
    rows_of_block_ *= 2;
  }
  if (num_rows_++ % rows_of_block_ == 0) blocks_.emplace_back(kKinds);
  for (const uint16_t kind : kinds) ++blocks_.back()[kind];
}

std::vector<std::vector<uint32_t>> RowBlocks::parts_of(int64_t parts, const std::vector<size_t>& order) const {
  std::vector<std::vector<uint32_t>> out(static_cast<size_t>(parts), std::vector<uint32_t>(kKinds));
  for (size_t i = 0; i < order.size(); ++i) {
    std::vector<uint32_t>& part = nth(out, static_cast<int64_t>(i) * parts / std::ssize(order));
    const std::vector<uint32_t>& block = blocks_[order[i]];
    std::transform(part.begin(), part.end(), block.begin(), part.begin(), std::plus<>());
  }
  return out;
}

std::vector<std::vector<uint32_t>> RowBlocks::parts(int64_t parts) const {
  std::vector<size_t> order(blocks_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  return parts_of(parts, order);
}

std::vector<std::vector<uint32_t>> RowBlocks::shuffled_parts(int64_t parts, uint64_t seed) const {
  std::vector<size_t> order;
  if (blocks_.empty()) return parts_of(parts, order);
  const Permutation permutation(std::ssize(blocks_), seed, 0);
  for (int64_t i = 0; i < std::ssize(blocks_); ++i) order.push_back(static_cast<size_t>(permutation(i)));
  return parts_of(parts, order);
}

}  // namespace zerostep
