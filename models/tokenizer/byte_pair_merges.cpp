#include "models/tokenizer/byte_pair_merges.h"

#include <array>
#include <bit>
#include <climits>
#include <cstddef>
#include <queue>

#include "base/nth.h"

namespace zerostep {
namespace {

constexpr uint64_t kEmpty = ~uint64_t{0};
// Up to here scanning for the best pair beats a heap.
constexpr size_t kScanLimit = 48;

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
uint64_t spread(uint64_t key) { return key * 0x9E3779B97F4A7C15ULL; }

}  // namespace

BytePairMerges::BytePairMerges(const std::vector<Rule>& rules) {
  const size_t num_slots = std::bit_ceil(2 * rules.size() + 2);
  shift_ = 64 - std::countr_zero(num_slots);
  slots_.assign(num_slots, Slot{kEmpty, INT_MAX, -1});
  for (size_t rank = 0; rank < rules.size(); ++rank) {
    const uint64_t pair = pair_key(rules[rank].left, rules[rank].right);
    size_t at = spread(pair) >> shift_;
    while (slots_[at].pair != kEmpty && slots_[at].pair != pair) at = (at + 1) & (num_slots - 1);
    if (slots_[at].pair == kEmpty) slots_[at] = {pair, static_cast<int32_t>(rank), rules[rank].result};
  }
}

const BytePairMerges::Slot* BytePairMerges::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_key(left, right);
  size_t at = spread(pair) >> shift_;
  while (slots_[at].pair != pair) {
    if (slots_[at].pair == kEmpty) return nullptr;
    at = (at + 1) & (slots_.size() - 1);
  }
  return &slots_[at];
}

void BytePairMerges::apply(std::vector<int32_t>& symbols) const {
  if (symbols.size() < 2) return;
  if (symbols.size() <= kScanLimit) {
    apply_scanning(symbols);
  } else {
    apply_with_heap(symbols);
  }
}

void BytePairMerges::apply_scanning(std::vector<int32_t>& symbols) const {
  struct Candidate {
    int32_t rank, result;
  };
  const auto candidate = [&](int32_t left, int32_t right) {
    const Slot* slot = find(left, right);
    return slot ? Candidate{slot->rank, slot->result} : Candidate{INT_MAX, -1};
  };
  std::array<Candidate, kScanLimit> pairs;  // pairs[i]: symbols i and i + 1
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) pairs[i] = candidate(symbols[i], symbols[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == INT_MAX) break;
    symbols[best] = pairs[best].result;
    --count;
    for (size_t i = best + 1; i < count; ++i) symbols[i] = symbols[i + 1];
    for (size_t i = best + 1; i + 1 < count; ++i) pairs[i] = pairs[i + 1];
    if (best > 0) pairs[best - 1] = candidate(symbols[best - 1], symbols[best]);
    if (best + 1 < count) pairs[best] = candidate(symbols[best], symbols[best + 1]);
  }
  symbols.resize(count);
}

void BytePairMerges::apply_with_heap(std::vector<int32_t>& symbols) const {
  // A doubly linked list over the positions; a symbol swallowed by its left neighbour is -1.
  struct Links {
    int64_t previous, next;
  };
  struct Candidate {
    int32_t rank, result;
    int64_t position;
    int32_t left, right;
  };
  const auto later = [](const Candidate& a, const Candidate& b) { return a.rank != b.rank ? a.rank > b.rank : a.position > b.position; };
  const auto count = static_cast<int64_t>(symbols.size());
  std::vector<Links> links(symbols.size());
  std::vector<Candidate> storage;
  storage.reserve(symbols.size());
  std::priority_queue<Candidate, std::vector<Candidate>, decltype(later)> queue(later, std::move(storage));
  const auto offer = [&](int64_t position, int64_t next) {
    if (position < 0 || next >= count) return;
    const int32_t left = nth(symbols, position), right = nth(symbols, next);
    if (const Slot* slot = find(left, right)) queue.push({slot->rank, slot->result, position, left, right});
  };
  for (int64_t i = 0; i < count; ++i) {
    nth(links, i) = {i - 1, i + 1};
    offer(i, i + 1);
  }
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Links& here = nth(links, best.position);
    if (nth(symbols, best.position) != best.left || here.next >= count || nth(symbols, here.next) != best.right) {
      continue;  // a neighbour has been merged since
    }
    nth(symbols, best.position) = best.result;
    nth(symbols, here.next) = -1;
    here.next = nth(links, here.next).next;
    if (here.next < count) nth(links, here.next).previous = best.position;
    offer(here.previous, best.position);
    offer(best.position, here.next);
  }
  size_t kept = 0;
  for (int32_t symbol : symbols) {
    if (symbol >= 0) symbols[kept++] = symbol;
  }
  symbols.resize(kept);
}

}  // namespace zerostep
