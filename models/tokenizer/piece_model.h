#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "models/tokenizer/byte_pair_merges.h"

namespace zerostep {

// The tokens of one piece of normalized text. Immutable after construction.
class PieceModel {
 public:
  // Working memory of one thread.
  class Scratch {
   public:
    virtual ~Scratch() = default;
  };
  virtual ~PieceModel() = default;
  virtual std::unique_ptr<Scratch> make_scratch() const = 0;
  virtual void encode(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const = 0;
  // Whether a piece in which these two characters (or bytes that are none) meet has the tokens of its parts there, whatever else it holds.
  virtual bool parts_between(std::string_view left, std::string_view right) const = 0;
  // Whether bytes that belong to no character have tokens of their own.
  virtual bool has_all_bytes() const = 0;
  virtual std::string description() const = 0;  // differs where the rules do, beside the vocabulary
};

// The tokens "<0x00>" to "<0xFF>", of bytes that other tokens do not spell.
struct ByteTokens {
  std::array<int32_t, 256> token;  // -1: there is none
  ByteTokens() { token.fill(-1); }
  // The byte that a token spelt so stands for; -1 where it stands for none.
  static int byte_of(std::string_view spelling);
};

// Byte-pair encoding of characters (Llama 2). A character without a token becomes the tokens of its bytes, or else the unknown token.
struct CharacterPairs {
  std::vector<std::pair<std::string_view, int32_t>> tokens;  // views of what outlives the model
  std::vector<BytePairMerges::Rule> merges;                  // by rank
  bool has_byte_fallback = false;
  ByteTokens bytes;
  int32_t unknown = -1;         // -1: characters without tokens are dropped
  bool fuses_unknown = false;   // those that stand together are one token
  bool ignores_merges = false;  // a piece that is a token becomes it, whatever the merges are
};
std::unique_ptr<PieceModel> make_character_pair_model(CharacterPairs parts);

// The most probable sequence of tokens, each of which has its own log-probability (Kudo, "Subword regularization", 2018).
struct Unigram {
  std::vector<std::pair<std::string_view, int32_t>> tokens;  // views of what outlives the model
  std::vector<double> scores;                                // by token
  int32_t unknown = -1;                                      // stands for a character without a token
  bool has_byte_fallback = false;
  ByteTokens bytes;
};
std::unique_ptr<PieceModel> make_unigram_model(Unigram parts);

}  // namespace zerostep
