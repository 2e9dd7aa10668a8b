#pragma once
#include <string_view>

namespace zerostep {

// Character tables as Hugging Face's tokenizers have them, made by unicode_tables.py: rows of numbers, sorted by the first of them, a code
// point. Each number is written less that of the row before, in Google's Encoded Polyline Algorithm Format, with line ends anywhere.
extern const std::string_view kCompositions;      // Decomposition, one step each, Hangul aside, of what NFC puts together again
extern const std::string_view kDecompositions;    // Decomposition: the others
extern const std::string_view kCombiningClasses;  // CombiningClass
extern const std::string_view kLowerCase;         // CaseRun, without U+0130, which becomes two characters
extern const std::string_view kGraphemes;         // GraphemeRange
extern const std::string_view kAccents;           // CodePointRange: dropped by strip_accents
extern const std::string_view kBertRemoved;       // CodePointRange: dropped by clean_text
extern const std::string_view kNumbers;           // CodePointRange: what Digits sets apart
extern const std::string_view kMarks, kPunctuation, kSymbols;  // CodePointRange: \p{M}, \p{P} and \p{S} of a Split
extern const std::string_view kBertPunctuation;                // CodePointRange: each a word of its own

}  // namespace zerostep
