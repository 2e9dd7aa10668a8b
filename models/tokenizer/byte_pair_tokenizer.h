#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "models/tokenizer/byte_pair_merges.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/vocabulary.h"

namespace zerostep {

// The parts of a byte-level tokenizer, whatever files they come from.
struct BytePairVocabulary : Vocabulary {
  std::vector<int32_t> token_of_byte;               // 256
  std::vector<BytePairMerges::Rule> merges;         // by rank
  std::vector<PreTokenizer::Rule> patterns = {{}};  // each cuts the pieces of the one before it
  std::optional<size_t> prefixed;     // what this many patterns have cut gets a space before it where it has none (add_prefix_space)
  bool nfc = false;                   // texts are composed first
  std::vector<int32_t> whole_pieces;  // ignore_merges: tokens that a piece spelt so becomes without merges
  std::optional<int32_t> padding;     // RoBERTa's <pad>
};

std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(BytePairVocabulary vocabulary);

}  // namespace zerostep
