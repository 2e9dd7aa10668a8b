#pragma once
#include <memory>
#include <string>

#include "models/tokenizer/vocabulary.h"

namespace zerostep {

// The parts of BERT's tokenizer, whatever files they come from.
struct WordPieceVocabulary : Vocabulary {
  int32_t unknown = -1;
  std::string continuing_prefix = "##";  // of tokens that continue a word
  int64_t max_characters = 100;          // longer words are unknown
  bool clean_text = true, split_ideographs = true, strip_accents = true, lower_case = true;
  int32_t padding = -1;
};

// WordPiece (Wu et al., "Google's neural machine translation system", 2016, as BERT has it): words between white space, punctuation and
// ideographs, each cut greedily into the longest pieces of the vocabulary; a word that cannot be cut so is unknown as a whole.
std::unique_ptr<Tokenizer> make_word_piece_tokenizer(WordPieceVocabulary vocabulary);

}  // namespace zerostep
