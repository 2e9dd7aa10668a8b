#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace zerostep {

// Piece of text -> its tokens, for the pieces met so far. Forgets everything when it is full. Not for several threads at once.
class WordCache {
 public:
  // Longer pieces are rare and not worth keeping.
  static constexpr size_t kMaxWordBytes = 64;

  WordCache();
  static uint64_t hash(std::string_view word);
  // The tokens of a word; valid until the next insert. Empty when unknown (no word has no tokens).
  std::span<const int32_t> find(std::string_view word, uint64_t hash) const;
  // A word that find does not know, at most kMaxWordBytes long.
  void insert(std::string_view word, uint64_t hash, std::span<const int32_t> tokens);

 private:
  struct Slot {
    uint64_t hash = 0;
    uint32_t word_begin = 0, tokens_begin = 0;
    uint16_t word_size = 0, num_tokens = 0;  // num_tokens 0: free
  };
  size_t free_slot(uint64_t hash) const;
  void grow();
  void clear();

  std::vector<Slot> slots_;  // open addressing; a power of two of them
  size_t used_ = 0;
  std::vector<char> words_;
  std::vector<int32_t> tokens_;
};

}  // namespace zerostep
