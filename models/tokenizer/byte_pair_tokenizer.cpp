#include "models/tokenizer/byte_pair_tokenizer.h"

#include <xxhash.h>

#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/nth.h"
#include "models/tokenizer/normalization.h"
#include "models/tokenizer/scratch_pool.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/word_cache.h"

namespace zerostep {
namespace {

// Identifies the rules in this folder; to be raised when any text could get other tokens.
constexpr const char* kBytePairRules = "byte-pair-2";

std::string hash_of(const BytePairVocabulary& vocabulary) {
  std::string all;
  for (const std::string& bytes : vocabulary.bytes_of_token) all += fmt::format("{}:{},", bytes.size(), bytes);
  for (const auto& rule : vocabulary.merges) all += fmt::format("{} {} {};", rule.left, rule.right, rule.result);
  for (int32_t token : vocabulary.token_of_byte) all += fmt::format("{} ", token);
  all += fmt::format("end {} pattern {} nfc {} whole {}", vocabulary.end_of_document, static_cast<int>(vocabulary.pattern), vocabulary.nfc,
                     vocabulary.whole_pieces.size());
  all += fmt::format(" prefix {} suffix {}", fmt::join(vocabulary.prefix, " "), fmt::join(vocabulary.suffix, " "));
  for (const AddedToken& t : vocabulary.added_tokens) {
    all += fmt::format(";{} {}:{} {} {} {}", t.id, t.content.size(), t.content, t.lstrip, t.rstrip, t.normalized);
  }
  const XXH128_hash_t hash = XXH3_128bits(all.data(), all.size());
  return fmt::format("{}-{:016x}{:016x}", kBytePairRules, hash.high64, hash.low64);
}

// The added tokens that are looked for in normalized text, or the others.
AddedTokens tokens_of(const std::vector<AddedToken>& all, bool normalized, bool nfc) {
  std::vector<AddedToken> chosen;
  for (AddedToken token : all) {
    if (token.normalized != normalized) continue;
    std::string buffer;
    if (normalized && nfc) token.content = std::string(nfc_form(token.content, buffer));
    chosen.push_back(std::move(token));
  }
  return AddedTokens(std::move(chosen));
}

class BytePairTokenizer final : public Tokenizer {
 public:
  explicit BytePairTokenizer(BytePairVocabulary vocabulary)
      : vocabulary_(std::move(vocabulary)),
        merges_(vocabulary_.merges),
        pre_tokenizer_(vocabulary_.pattern),
        verbatim_(tokens_of(vocabulary_.added_tokens, false, vocabulary_.nfc)),
        normalized_(tokens_of(vocabulary_.added_tokens, true, vocabulary_.nfc)),
        fingerprint_(hash_of(vocabulary_)) {
    for (int32_t token : vocabulary_.whole_pieces) token_of_piece_.emplace(nth(vocabulary_.bytes_of_token, token), token);
  }

  void encode(std::string_view text, std::vector<int32_t>& out) const override {
    if (text.empty()) return;
    const auto lease = scratches_.borrow([&] { return std::make_unique<Scratch>(pre_tokenizer_); });
    Scratch& scratch = lease.get();
    verbatim_.split(text, out, [&](std::string_view part) {
      const std::string_view normal = vocabulary_.nfc ? nfc_form(part, scratch.normal) : part;
      normalized_.split(normal, out, [&](std::string_view plain) { encode_plain(plain, scratch, out); });
    });
  }

  std::string decode(const std::vector<int32_t>& tokens) const override {
    std::string text;
    for (int32_t token : tokens) {
      if (!has_text(token)) {
        fail_input("token {} is not in the tokenizer's vocabulary of {}: decode with the tokenizer of the model that made it", token,
                   vocabulary_size());
      }
      text += nth(vocabulary_.bytes_of_token, token);
    }
    return text;
  }

  int64_t vocabulary_size() const override { return static_cast<int64_t>(vocabulary_.bytes_of_token.size()); }
  int32_t end_of_document() const override { return vocabulary_.end_of_document; }
  bool has_text(int32_t token) const override {
    return token >= 0 && token < vocabulary_size() && !nth(vocabulary_.bytes_of_token, token).empty();
  }
  StrayBytes stray_bytes() const override { return StrayBytes::Kept; }
  std::string fingerprint() const override { return fingerprint_; }
  std::vector<int32_t> prefix() const override { return vocabulary_.prefix; }
  std::vector<int32_t> suffix() const override { return vocabulary_.suffix; }
  size_t split_point(std::string_view text, size_t at) const override {
    return verbatim_.cut_before_space() && normalized_.cut_before_space() ? pre_tokenizer_.safe_cut(text, at) : text.size();
  }

 private:
  struct Scratch {
    explicit Scratch(const PreTokenizer& pre_tokenizer) : pre_tokenizer(pre_tokenizer.make_scratch()) {}
    PreTokenizer::ScratchPointer pre_tokenizer;
    WordCache words;
    std::string normal, text;
    std::vector<int32_t> symbols;
  };

  void encode_plain(std::string_view text, Scratch& scratch, std::vector<int32_t>& out) const {
    const std::string_view well_formed = with_well_formed_utf8(text, scratch.text);
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = pre_tokenizer_.piece_end(well_formed, begin, *scratch.pre_tokenizer);
      encode_piece(text.substr(begin, end - begin), scratch, out);
    }
  }

  void encode_piece(std::string_view piece, Scratch& scratch, std::vector<int32_t>& out) const {
    const bool keep = piece.size() <= WordCache::kMaxWordBytes;
    const uint64_t hash = keep ? WordCache::hash(piece) : 0;
    if (keep) {
      const auto known = scratch.words.find(piece, hash);
      if (!known.empty()) {
        out.insert(out.end(), known.begin(), known.end());
        return;
      }
    }
    if (!token_of_piece_.empty()) {
      const auto whole = token_of_piece_.find(piece);
      if (whole != token_of_piece_.end()) {
        out.push_back(whole->second);
        return;
      }
    }
    scratch.symbols.clear();
    for (char c : piece) scratch.symbols.push_back(vocabulary_.token_of_byte[static_cast<unsigned char>(c)]);
    merges_.apply(scratch.symbols);
    if (keep) scratch.words.insert(piece, hash, scratch.symbols);
    out.insert(out.end(), scratch.symbols.begin(), scratch.symbols.end());
  }

  BytePairVocabulary vocabulary_;
  BytePairMerges merges_;
  PreTokenizer pre_tokenizer_;
  AddedTokens verbatim_, normalized_;
  std::unordered_map<std::string_view, int32_t> token_of_piece_;  // views of vocabulary_
  std::string fingerprint_;
  mutable ScratchPool<Scratch> scratches_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(BytePairVocabulary vocabulary) {
  return std::make_unique<BytePairTokenizer>(std::move(vocabulary));
}

}  // namespace zerostep
