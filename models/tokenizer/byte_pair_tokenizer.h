#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/byte_pair_merges.h"
#include "models/tokenizer/pre_tokenizer.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {

// The parts of a byte-level tokenizer, whatever files they come from.
struct BytePairVocabulary {
  std::vector<std::string> bytes_of_token;   // by id; empty: the id is unused
  std::vector<int32_t> token_of_byte;        // 256
  std::vector<BytePairMerges::Rule> merges;  // by rank
  int32_t end_of_document = -1;
  std::vector<PreTokenizer::Rule> patterns = {{}};  // each cuts the pieces of the one before it
  std::optional<size_t> prefixed;     // what this many patterns have cut gets a space before it where it has none (add_prefix_space)
  bool nfc = false;                   // texts are composed first
  std::vector<int32_t> whole_pieces;  // ignore_merges: tokens that a piece spelt so becomes without merges
  std::vector<AddedToken> added_tokens;
  std::vector<int32_t> prefix, suffix;
  std::optional<int32_t> padding, mask;  // RoBERTa's <pad> and <mask>
};

std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(BytePairVocabulary vocabulary);

}  // namespace zerostep
