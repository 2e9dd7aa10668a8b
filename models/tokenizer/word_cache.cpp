#include "models/tokenizer/word_cache.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace zerostep {
namespace {

constexpr size_t kFirstSlots = 1 << 12;
constexpr size_t kMaxSlots = 1 << 19;

}  // namespace

WordCache::WordCache() : slots_(kFirstSlots) {}

uint64_t WordCache::hash(std::string_view word) { return XXH3_64bits(word.data(), word.size()); }

std::span<const int32_t> WordCache::find(std::string_view word, uint64_t hash) const {
  for (size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.num_tokens == 0) return {};
    if (slot.hash == hash && slot.word_size == word.size() && std::memcmp(words_.data() + slot.word_begin, word.data(), word.size()) == 0) {
      return {tokens_.data() + slot.tokens_begin, slot.num_tokens};
    }
  }
}

void WordCache::insert(std::string_view word, uint64_t hash, std::span<const int32_t> tokens) {
  if (2 * (used_ + 1) > slots_.size()) {
    if (slots_.size() < kMaxSlots) {
      grow();
    } else {
      clear();
    }
  }
  slots_[free_slot(hash)] = {hash, static_cast<uint32_t>(words_.size()), static_cast<uint32_t>(tokens_.size()),
                             static_cast<uint16_t>(word.size()), static_cast<uint16_t>(tokens.size())};
  words_.insert(words_.end(), word.begin(), word.end());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  ++used_;
}

size_t WordCache::free_slot(uint64_t hash) const {
  size_t at = hash & (slots_.size() - 1);
  while (slots_[at].num_tokens != 0) at = (at + 1) & (slots_.size() - 1);
  return at;
}

void WordCache::grow() {
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
  for (const Slot& slot : old) {
    if (slot.num_tokens != 0) slots_[free_slot(slot.hash)] = slot;
  }
}

void WordCache::clear() {
  std::fill(slots_.begin(), slots_.end(), Slot{});
  used_ = 0;
  words_.clear();
  tokens_.clear();
}

}  // namespace zerostep
