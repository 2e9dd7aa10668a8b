#pragma once
#include <cstdint>
#include <span>

namespace zerostep {

// Character tables as Hugging Face's tokenizers have them, sorted by code point; made by unicode_tables.py.

// One step of canonical decomposition, Hangul aside. second 0: a single character.
struct Decomposition {
  uint32_t composed, first, second;
  bool composes;  // NFC puts first and second together again
};
struct CombiningClass {
  uint32_t first, last;
  uint8_t order;  // above 0
};
// Every `step`-th character from first to last has its lower case `difference` further on.
struct CaseRun {
  uint32_t first, last;
  uint8_t step;
  int32_t difference;
};
struct CodePointRange {
  uint32_t first, last;
};

extern const std::span<const Decomposition> kDecompositions;
extern const std::span<const CombiningClass> kCombiningClasses;
extern const std::span<const CaseRun> kLowerCase;               // without U+0130, which becomes two characters
extern const std::span<const CodePointRange> kAccents;          // dropped by strip_accents
extern const std::span<const CodePointRange> kBertRemoved;      // dropped by clean_text
extern const std::span<const CodePointRange> kBertPunctuation;  // each a word of its own

}  // namespace zerostep
