#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/tokenizer/added_tokens.h"
#include "models/tokenizer/piece_model.h"
#include "models/tokenizer/piece_rules.h"
#include "models/tokenizer/text_normalizer.h"
#include "models/tokenizer/tokenizer.h"

namespace zerostep {

// How tokens become a text again, by a tokenizer.json's decoder.
struct PieceDecoder {
  std::string marker;          // written as a space; empty: nothing is
  bool reads_bytes = false;    // "<0x0A>" is a byte
  bool drops_markers = false;  // those of the first token become nothing (Metaspace)
  size_t num_stripped = 0;     // spaces that go from the beginning of the text, where there are so many (Strip)
};

// The parts of a tokenizer of SentencePiece's kind, whatever files they come from.
struct PieceVocabulary {
  std::vector<std::string> text_of_token;  // by id; empty: the id is unused
  TextNormalizer normalizer;
  PieceRules rules;
  std::unique_ptr<PieceModel> model;
  PieceDecoder decoder;
  std::vector<AddedToken> added_tokens;
  std::vector<int32_t> prefix, suffix;
  int32_t end_of_document = -1, padding = -1;
  std::optional<int32_t> mask;
};

// SentencePiece's tokenizers (Llama 2, T5, XLM-R) as Hugging Face's tokenizers has them: a normalized text is cut into pieces, which a
// model tokenizes.
std::unique_ptr<Tokenizer> make_piece_tokenizer(PieceVocabulary vocabulary);

}  // namespace zerostep
