#include "experiments/datasets/text_windows.h"

#include <xxhash.h>

#include <algorithm>

namespace zerostep {
namespace {

// A polynomial of the bytes modulo 2^64.
constexpr uint64_t kFactor = 0x9E3779B97F4A7C15ULL;

uint64_t value_of(char byte) { return static_cast<unsigned char>(byte) + 1; }

uint64_t rolling_hash(std::string_view text) {
  uint64_t hash = 0;
  for (const char byte : text) hash = hash * kFactor + value_of(byte);
  return hash;
}

// The first 23 bits of a hash: the word of the filter, and the bit in it.
size_t word_of(uint64_t hash) { return static_cast<size_t>(hash >> 47); }
uint64_t bit_of(uint64_t hash) { return uint64_t{1} << (hash >> 41 & 63); }

uint64_t check_of(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

}  // namespace

void TextWindows::keep(std::string_view window) {
  const uint64_t hash = rolling_hash(window), check = check_of(window);
  const auto [begin, end] = windows_.equal_range(hash);
  if (std::any_of(begin, end, [&](const auto& kept) { return kept.second.check == check; })) return;
  const auto length = static_cast<uint32_t>(window.size());
  windows_.emplace(hash, Window{check, length});
  filter_[word_of(hash)] |= bit_of(hash);
  if (std::find(lengths_.begin(), lengths_.end(), length) == lengths_.end()) lengths_.push_back(length);
}

void TextWindows::add(std::string_view text) {
  ++num_texts_;
  if (text.size() < kFewest) {
    ++num_too_short_;
    return;
  }
  const size_t length = std::min(kBytes, text.size() / kFewest * kFewest);
  for (size_t at = 0; at + length <= text.size(); at += length) keep(text.substr(at, length));
  keep(text.substr(text.size() - length));
}

int64_t TextWindows::count_in(std::string_view text) const {
  int64_t found = 0;
  for (const uint32_t length : lengths_) {
    if (text.size() < length) continue;
    uint64_t power = 1;  // of the byte that leaves the window
    for (uint32_t i = 1; i < length; ++i) power *= kFactor;
    uint64_t hash = rolling_hash(text.substr(0, length));
    for (size_t at = 0;; ++at) {
      if ((filter_[word_of(hash)] & bit_of(hash)) != 0) {
        const auto [begin, end] = windows_.equal_range(hash);
        found += std::any_of(begin, end, [&](const auto& kept) {
          return kept.second.length == length && kept.second.check == check_of(text.substr(at, length));
        });
      }
      if (at + length == text.size()) break;
      hash = (hash - value_of(text[at]) * power) * kFactor + value_of(text[at + length]);
    }
  }
  return found;
}

}  // namespace zerostep
