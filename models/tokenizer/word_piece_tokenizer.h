#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {

// The parts of BERT's tokenizer, whatever files they come from.
struct WordPieceVocabulary {
  std::vector<std::string> text_of_token;  // by id; empty: the id is unused
  int32_t unknown = -1;
  std::string continuing_prefix = "##";  // of tokens that continue a word
  int64_t max_characters = 100;          // longer words are unknown
  bool clean_text = true, split_ideographs = true, strip_accents = true, lower_case = true;
  std::vector<AddedToken> added_tokens;
  std::vector<int32_t> prefix, suffix;
  int32_t end_of_document = -1, padding = -1;
  std::optional<int32_t> mask;
};

// WordPiece (Wu et al., "Google's neural machine translation system", 2016, as BERT has it): words between white space, punctuation and
// ideographs, each cut greedily into the longest pieces of the vocabulary; a word that cannot be cut so is unknown as a whole.
std::unique_ptr<Tokenizer> make_word_piece_tokenizer(WordPieceVocabulary vocabulary);

}  // namespace zerostep
