#include <algorithm>
#include <bit>

#include "base/error.h"
#include "base/nth.h"
#include "models/tokenizer/piece_model.h"
#include "models/tokenizer/token_trie.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/word_cache.h"

namespace zerostep {
namespace {

// The first character of a text that is not empty, or a byte that belongs to none.
std::string_view first_character(std::string_view text) {
  return text.substr(0, std::max<size_t>(1, utf8_character_length(text.substr(0, 4))));
}

bool is_alphanumeric(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// The pairs of tokens of neighbouring characters that some merge joins.
class JoinedPairs {
 public:
  explicit JoinedPairs(const std::vector<std::pair<int32_t, int32_t>>& pairs) : slots_(std::bit_ceil(2 * pairs.size() + 2), kEmpty) {
    shift_ = 64 - std::countr_zero(slots_.size());
    for (const auto& [left, right] : pairs) slots_[place_of(key_of(left, right))] = key_of(left, right);
  }
  bool contains(int32_t left, int32_t right) const { return slots_[place_of(key_of(left, right))] != kEmpty; }

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t place_of(uint64_t key) const {
    size_t at = (key * 0x9E3779B97F4A7C15ULL) >> shift_;
    while (slots_[at] != kEmpty && slots_[at] != key) at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  std::vector<uint64_t> slots_;  // open addressing; a power of two of them
  int shift_ = 0;
};

class CharacterPairModel final : public PieceModel {
 public:
  explicit CharacterPairModel(CharacterPairs parts)
      : parts_(std::move(parts)), merges_(parts_.merges), whole_(parts_.ignores_merges ? parts_.tokens : decltype(parts_.tokens)()) {
    for (const auto& [text, token] : parts_.tokens) {
      if (text.empty() || utf8_character_length(text.substr(0, 4)) != text.size()) continue;
      std::string_view rest = text;
      const uint32_t character = take_code_point(rest);
      if (character >= token_of_character_.size()) token_of_character_.resize(character + 1, -1);
      nth(token_of_character_, character) = token;
    }
    has_all_bytes_ =
        parts_.has_byte_fallback && std::all_of(parts_.bytes.token.begin(), parts_.bytes.token.end(), [](int32_t t) { return t >= 0; });
    find_joined();
  }

  std::unique_ptr<PieceModel::Scratch> make_scratch() const override { return std::make_unique<Scratch>(); }

  void encode(std::string_view piece, PieceModel::Scratch& given, std::vector<int32_t>& out) const override {
    auto& scratch = static_cast<Scratch&>(given);
    if (parts_.ignores_merges) {
      if (const int32_t token = whole_.find(piece); token >= 0) {
        out.push_back(token);
        return;
      }
    }
    // Merges that never reach over a place leave two parts to be merged by themselves: short ones, which are met again.
    size_t begin = 0;
    int32_t left = -1;
    for (size_t at = 0; at < piece.size();) {
      const std::string_view character = first_character(piece.substr(at, 4));
      int32_t right = token_of(character);
      if (at > 0 && !joins(left, right)) {
        encode_part(piece.substr(begin, at - begin), scratch, out);
        begin = at;
      }
      at += character.size();
      // Letters and digits are mostly joined, and need not be asked for.
      if (is_alphanumeric(character.front())) {
        const size_t word = at;
        while (at < piece.size() && is_alphanumeric(piece[at])) ++at;
        if (at > word) right = token_of(piece.substr(at - 1, 1));
      }
      left = right;
    }
    if (begin < piece.size()) encode_part(piece.substr(begin), scratch, out);
  }

  // A piece that is a token as a whole may have other parts.
  bool parts_between(std::string_view left, std::string_view right) const override {
    return !parts_.ignores_merges && !joins(token_of(left), token_of(right));
  }
  bool has_all_bytes() const override { return has_all_bytes_; }
  std::string description() const override {
    std::string all = fmt::format("pairs bytes {} unknown {} fused {} whole {};", parts_.has_byte_fallback, parts_.unknown,
                                  parts_.fuses_unknown, parts_.ignores_merges);
    for (const auto& rule : parts_.merges) all += fmt::format("{} {} {};", rule.left, rule.right, rule.result);
    return all;
  }

 private:
  struct Scratch final : PieceModel::Scratch {
    WordCache words;
    std::vector<int32_t> symbols;
  };

  void find_joined() {
    std::vector<std::string_view> text_of_token;
    for (const auto& [text, token] : parts_.tokens) {
      if (token >= std::ssize(text_of_token)) text_of_token.resize(static_cast<size_t>(token) + 1);
      nth(text_of_token, token) = text;
    }
    std::vector<std::pair<int32_t, int32_t>> pairs;
    for (const auto& rule : parts_.merges) {
      for (const int32_t token : {rule.left, rule.right, rule.result}) {
        const bool is_byte = parts_.has_byte_fallback && ByteTokens::byte_of(nth(text_of_token, token)) >= 0;
        if (is_byte || token == parts_.unknown) joins_all_ = true;  // what stands for any character is merged on
      }
      const std::string_view left = nth(text_of_token, rule.left);
      const int32_t last = token_of(left.substr(last_character(left))), first = token_of(first_character(nth(text_of_token, rule.right)));
      if (last >= 0 && first >= 0) pairs.emplace_back(last, first);
    }
    joined_ = JoinedPairs(pairs);
  }

  // -1: the character has no token of its own.
  int32_t token_of(std::string_view character) const {
    if (static_cast<unsigned char>(character.front()) >= 0x80 && character.size() == 1) return -1;
    const uint32_t code_point = take_code_point(character);
    return code_point < token_of_character_.size() ? token_of_character_[code_point] : -1;
  }

  // Whether what two neighbouring characters become may depend on both. Unknown ones may be fused, or dropped.
  bool joins(int32_t left, int32_t right) const {
    if (joins_all_) return true;
    return left < 0 || right < 0 ? !has_all_bytes_ : joined_.contains(left, right);
  }

  void encode_part(std::string_view part, Scratch& scratch, std::vector<int32_t>& out) const {
    const bool keep = part.size() <= WordCache::kMaxWordBytes;
    const uint64_t hash = keep ? WordCache::hash(part) : 0;
    if (keep) {
      const auto known = scratch.words.find(part, hash);
      if (!known.empty()) {
        out.insert(out.end(), known.begin(), known.end());
        return;
      }
    }
    scratch.symbols.clear();
    append_symbols(part, scratch.symbols);
    merges_.apply(scratch.symbols);
    if (keep && !scratch.symbols.empty()) scratch.words.insert(part, hash, scratch.symbols);
    out.insert(out.end(), scratch.symbols.begin(), scratch.symbols.end());
  }

  void append_symbols(std::string_view part, std::vector<int32_t>& symbols) const {
    // An unknown token waits for the next known character, also behind bytes, as in Hugging Face's tokenizers.
    bool waits = false;
    const auto end_unknown = [&] {
      if (waits) symbols.push_back(parts_.unknown);
      waits = false;
    };
    for (size_t at = 0, length = 0; at < part.size(); at += length) {
      const std::string_view character = first_character(part.substr(at, 4));
      length = character.size();
      if (const int32_t token = token_of(character); token >= 0) {
        end_unknown();
        symbols.push_back(token);
      } else if (!append_bytes(character, symbols) && parts_.unknown >= 0) {
        if (!parts_.fuses_unknown) end_unknown();
        waits = true;
      }
    }
    end_unknown();
  }

  bool append_bytes(std::string_view character, std::vector<int32_t>& symbols) const {
    const auto token_of_byte = [&](char c) { return parts_.bytes.token[static_cast<unsigned char>(c)]; };
    if (!parts_.has_byte_fallback || !std::all_of(character.begin(), character.end(), [&](char c) { return token_of_byte(c) >= 0; }))
      return false;
    for (const char c : character) symbols.push_back(token_of_byte(c));
    return true;
  }

  CharacterPairs parts_;
  BytePairMerges merges_;
  TokenTrie whole_;
  std::vector<int32_t> token_of_character_;  // by code point
  JoinedPairs joined_{{}};
  bool joins_all_ = false, has_all_bytes_ = false;
};

}  // namespace

int ByteTokens::byte_of(std::string_view spelling) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (spelling.size() != 6 || !spelling.starts_with("<0x") || !spelling.ends_with('>')) return -1;
  const int high = digit(spelling[3]), low = digit(spelling[4]);
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

std::unique_ptr<PieceModel> make_character_pair_model(CharacterPairs parts) {
  return std::make_unique<CharacterPairModel>(std::move(parts));
}

}  // namespace zerostep
