#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "models/tokenizer/piece_model.h"
#include "models/tokenizer/piece_rules.h"
#include "models/tokenizer/text_normalizer.h"
#include "models/tokenizer/vocabulary.h"

namespace zerostep {

// How tokens become a text again, by a tokenizer.json's decoder.
struct PieceDecoder {
  std::string marker;          // written as a space; empty: nothing is
  bool reads_bytes = false;    // "<0x0A>" is a byte
  bool drops_markers = false;  // those of the first token become nothing (Metaspace)
  size_t num_stripped = 0;     // spaces that go from the beginning of the text, where there are so many (Strip)
};

// The parts of a tokenizer of SentencePiece's kind, whatever files they come from.
struct PieceVocabulary : Vocabulary {
  TextNormalizer normalizer;
  PieceRules rules;
  std::unique_ptr<PieceModel> model;
  PieceDecoder decoder;
  int32_t padding = -1;
};

// SentencePiece's tokenizers (Llama 2, T5, XLM-R) as Hugging Face's tokenizers has them: a normalized text is cut into pieces, which a
// model tokenizes.
std::unique_ptr<Tokenizer> make_piece_tokenizer(PieceVocabulary vocabulary);

}  // namespace zerostep
