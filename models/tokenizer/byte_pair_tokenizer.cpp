#include "models/tokenizer/byte_pair_tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <string>
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
  for (const std::string& bytes : vocabulary.text_of_token) all += fmt::format("{}:{},", bytes.size(), bytes);
  for (const auto& rule : vocabulary.merges) all += fmt::format("{} {} {};", rule.left, rule.right, rule.result);
  for (int32_t token : vocabulary.token_of_byte) all += fmt::format("{} ", token);
  all += fmt::format("end {} pattern", vocabulary.end_of_document);
  for (const auto& rule : vocabulary.patterns) all += fmt::format(" {}{}", static_cast<int>(rule.pattern), rule.regex);
  all += fmt::format(" nfc {} whole {}", vocabulary.nfc, vocabulary.whole_pieces.size());
  if (vocabulary.prefixed) all += fmt::format(" prefixed {}", *vocabulary.prefixed);
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

class BytePairTokenizer final : public VocabularyTokenizer<BytePairVocabulary> {
 public:
  explicit BytePairTokenizer(BytePairVocabulary vocabulary)
      : VocabularyTokenizer(std::move(vocabulary), hash_of),
        merges_(vocabulary_.merges),
        pre_tokenizers_(vocabulary_.patterns.begin(), vocabulary_.patterns.end()),
        verbatim_(tokens_of(vocabulary_.added_tokens, false, vocabulary_.nfc)),
        normalized_(tokens_of(vocabulary_.added_tokens, true, vocabulary_.nfc)) {
    for (int32_t token : vocabulary_.whole_pieces) token_of_piece_.emplace(nth(vocabulary_.text_of_token, token), token);
  }

  void encode(std::string_view text, std::vector<int32_t>& out) const override { encode_part(text, false, out); }
  void encode_rest(std::string_view text, std::vector<int32_t>& out) const override { encode_part(text, true, out); }

  std::string decode(const std::vector<int32_t>& tokens) const override {
    std::string text;
    for (int32_t token : tokens) text += text_of(token);
    return text;
  }

  int32_t padding() const override { return vocabulary_.padding.value_or(vocabulary_.end_of_document); }
  size_t split_point(std::string_view text, size_t at) const override {
    if (!verbatim_.cut_before_space() || !normalized_.cut_before_space()) return text.size();
    if (std::any_of(pre_tokenizers_.begin(), pre_tokenizers_.end(), [](const PreTokenizer& p) { return p.is_other(); }))
      return other_cut(text, at);
    // Where one pattern has a boundary, those behind it keep it, and numbers do not reach over white space.
    const auto cuts = std::find_if(pre_tokenizers_.begin(), pre_tokenizers_.end(), [](const PreTokenizer& p) { return !p.is_numbers(); });
    return cuts->safe_cut(text, at, vocabulary_.prefixed.has_value());
  }

 private:
  struct Scratch {
    explicit Scratch(const PreTokenizer& pre_tokenizer) : pre_tokenizer(pre_tokenizer.make_scratch()) {}
    PreTokenizer::ScratchPointer pre_tokenizer;
    WordCache words;
    std::string normal, text, prefixed, prefixed_well_formed;
    std::vector<int32_t> symbols;
  };

  // A safe cut where some of the patterns are Other.
  size_t other_cut(std::string_view text, size_t at) const {
    const bool at_line_ends = pre_tokenizers_.front().cuts_at_line_ends() && !vocabulary_.prefixed;
    const bool at_words =
        std::all_of(pre_tokenizers_.begin(), pre_tokenizers_.end(), [](const PreTokenizer& p) { return p.parts_words(); });
    for (size_t p = std::max<size_t>(at, 1); p < text.size(); ++p) {
      const char before = text[p - 1];
      if (at_line_ends && text[p] == '\n' && before != ' ' && (before < '\t' || before > '\r')) return p;
      if (at_words && text[p] == ' ' && ((before >= 'A' && before <= 'Z') || (before >= 'a' && before <= 'z'))) return p;
    }
    return text.size();
  }

  void encode_part(std::string_view text, bool continues, std::vector<int32_t>& out) const {
    if (text.empty()) return;
    const auto lease = scratches_.borrow([&] { return std::make_unique<Scratch>(pre_tokenizers_.front()); });
    Scratch& scratch = lease.get();
    verbatim_.split(text, out, [&](std::string_view part) {
      const std::string_view normal = vocabulary_.nfc ? nfc_form(part, scratch.normal) : part;
      normalized_.split(normal, out, [&](std::string_view plain) {
        const bool begins = part.data() == text.data() && plain.data() == normal.data();
        cut(0, with_well_formed_utf8(plain, scratch.text), plain, continues && begins, scratch, out);
      });
    });
  }

  // Cuts by the patterns from this one on. `well_formed`: the text with other bytes in place of those that are no characters.
  void cut(size_t pattern, std::string_view well_formed, std::string_view text, bool continues, Scratch& scratch,
           std::vector<int32_t>& out) const {
    if (vocabulary_.prefixed == pattern && !continues && !text.starts_with(' ')) {
      well_formed = (scratch.prefixed_well_formed = " ").append(well_formed);
      text = (scratch.prefixed = " ").append(text);
    }
    if (pattern == pre_tokenizers_.size()) return encode_piece(text, scratch, out);
    const PreTokenizer& pre_tokenizer = pre_tokenizers_[pattern];
    PreTokenizer::Scratch& match = *scratch.pre_tokenizer;
    if (pattern + 1 == pre_tokenizers_.size() && vocabulary_.prefixed != pattern + 1) {
      for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
        end = pre_tokenizer.piece_end(well_formed, begin, match);
        encode_piece(text.substr(begin, end - begin), scratch, out);
      }
      return;
    }
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = pre_tokenizer.piece_end(well_formed, begin, match);
      cut(pattern + 1, well_formed.substr(begin, end - begin), text.substr(begin, end - begin), continues && begin == 0, scratch, out);
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

  BytePairMerges merges_;
  std::vector<PreTokenizer> pre_tokenizers_;
  AddedTokens verbatim_, normalized_;
  std::unordered_map<std::string_view, int32_t> token_of_piece_;  // views of vocabulary_
  mutable ScratchPool<Scratch> scratches_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(BytePairVocabulary vocabulary) {
  return std::make_unique<BytePairTokenizer>(std::move(vocabulary));
}

}  // namespace zerostep
