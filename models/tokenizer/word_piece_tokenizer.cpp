#include "models/tokenizer/word_piece_tokenizer.h"

#include <xxhash.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "models/tokenizer/normalization.h"
#include "models/tokenizer/scratch_pool.h"
#include "models/tokenizer/utf8.h"
#include "models/tokenizer/word_cache.h"

namespace zerostep {
namespace {

// Identifies the rules in this folder; to be raised when any text could get other tokens.
constexpr const char* kWordPieceRules = "word-piece-1";
// Stands for bytes that belong to no character.
constexpr uint32_t kReplacement = 0xFFFD;

std::string hash_of(const WordPieceVocabulary& v) {
  std::string all;
  for (const std::string& text : v.text_of_token) all += fmt::format("{}:{},", text.size(), text);
  all += fmt::format("{} {} {} {} {} {} {}", v.unknown, v.continuing_prefix, v.max_characters, v.clean_text, v.split_ideographs,
                     v.strip_accents, v.lower_case);
  all += fmt::format(" {} {} prefix {} suffix {}", v.end_of_document, v.padding, fmt::join(v.prefix, " "), fmt::join(v.suffix, " "));
  for (const AddedToken& t : v.added_tokens) all += fmt::format(";{} {} {} {} {}", t.id, t.content, t.lstrip, t.rstrip, t.normalized);
  const XXH128_hash_t hash = XXH3_128bits(all.data(), all.size());
  return fmt::format("{}-{:016x}{:016x}", kWordPieceRules, hash.high64, hash.low64);
}

bool is_punctuation(uint32_t c) {
  if (c < 0x80) return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  return is_bert_punctuation(c);
}

class WordPieceTokenizer final : public VocabularyTokenizer<WordPieceVocabulary> {
 public:
  explicit WordPieceTokenizer(WordPieceVocabulary vocabulary) : VocabularyTokenizer(std::move(vocabulary), hash_of) {
    for (size_t i = 0; i < vocabulary_.text_of_token.size(); ++i) {
      const std::string_view text = vocabulary_.text_of_token[i];
      if (text.empty()) continue;
      beginnings_[text] = static_cast<int32_t>(i);
      if (text.starts_with(vocabulary_.continuing_prefix)) {
        continuations_[text.substr(vocabulary_.continuing_prefix.size())] = static_cast<int32_t>(i);
      }
    }
    std::vector<AddedToken> verbatim, normalized;
    for (AddedToken token : vocabulary_.added_tokens) {
      auto& list = token.normalized ? normalized : verbatim;
      if (token.normalized) token.content = normal_form(token.content);
      if (!token.content.empty()) list.push_back(std::move(token));
    }
    verbatim_ = AddedTokens(std::move(verbatim));
    normalized_ = AddedTokens(std::move(normalized));
  }

  void encode(std::string_view text, std::vector<int32_t>& out) const override {
    const auto words = words_.borrow([] { return std::make_unique<WordCache>(); });
    verbatim_.split(text, out, [&](std::string_view part) {
      const std::string normal = normal_form(part);
      normalized_.split(normal, out, [&](std::string_view plain) { encode_words(plain, words.get(), out); });
    });
  }

  std::string decode(const std::vector<int32_t>& tokens) const override {
    std::string text;
    for (int32_t token : tokens) {
      std::string_view piece = text_of(token);
      if (!text.empty() && piece.starts_with(vocabulary_.continuing_prefix)) {
        piece.remove_prefix(vocabulary_.continuing_prefix.size());
      } else if (!text.empty()) {
        text += ' ';
      }
      text += piece;
    }
    return text;
  }

  int32_t padding() const override { return vocabulary_.padding; }
  StrayBytes stray_bytes() const override { return StrayBytes::Lost; }
  // White space parts words whatever stands beside it.
  size_t split_point(std::string_view text, size_t at) const override {
    if (!verbatim_.cut_before_space() || !normalized_.cut_before_space()) return text.size();
    for (size_t p = std::max<size_t>(at, 1); p < text.size(); ++p) {
      if ((text[p] == ' ' || text[p] == '\n') && text[p - 1] != ' ' && (text[p - 1] < '\t' || text[p - 1] > '\r')) return p;
    }
    return text.size();
  }

 private:
  // What BERT's normalizer makes of a text, in its order: cleaned, ideographs set apart, accents dropped, lower case.
  std::string normal_form(std::string_view text) const {
    std::vector<uint32_t> characters;
    characters.reserve(text.size());
    while (!text.empty()) {
      const bool whole = utf8_character_length(text.substr(0, 4)) > 0;
      const uint32_t character = take_code_point(text);
      append_cleaned(whole ? character : kReplacement, characters);
    }
    if (vocabulary_.strip_accents) {
      decompose(characters);
      std::erase_if(characters, is_accent);
    }
    if (vocabulary_.lower_case) {
      std::vector<uint32_t> lower;
      lower.reserve(characters.size());
      for (uint32_t character : characters) append_lower_case(character, lower);
      characters = std::move(lower);
    }
    std::string normal;
    normal.reserve(characters.size());
    for (uint32_t character : characters) append_utf8(character, normal);
    return normal;
  }

  void append_cleaned(uint32_t character, std::vector<uint32_t>& out) const {
    if (vocabulary_.clean_text && (character < ' ' || character > '~')) {
      if (is_bert_removed(character)) return;
      if (is_white_space(character)) character = ' ';
    }
    if (vocabulary_.split_ideographs && is_bert_ideograph(character)) {
      out.insert(out.end(), {' ', character, ' '});
    } else {
      out.push_back(character);
    }
  }

  void encode_words(std::string_view text, WordCache& words, std::vector<int32_t>& out) const {
    size_t begin = 0;  // of the word that ends at `at`
    const auto end_word = [&](size_t end) {
      if (begin < end) encode_word(text.substr(begin, end - begin), words, out);
    };
    for (std::string_view rest = text; !rest.empty();) {
      const size_t at = text.size() - rest.size();
      const uint32_t character = take_code_point(rest);
      const size_t next = text.size() - rest.size();
      if (is_white_space(character)) {
        end_word(at);
        begin = next;
      } else if (is_punctuation(character)) {
        end_word(at);
        begin = at;
        end_word(next);
        begin = next;
      }
    }
    end_word(text.size());
  }

  void encode_word(std::string_view word, WordCache& words, std::vector<int32_t>& out) const {
    if (word.size() > WordCache::kMaxWordBytes) return cut(word, out);
    const uint64_t hash = WordCache::hash(word);
    const auto known = words.find(word, hash);
    if (!known.empty()) {
      out.insert(out.end(), known.begin(), known.end());
      return;
    }
    const size_t before = out.size();
    cut(word, out);
    words.insert(word, hash, std::span(out).subspan(before));
  }

  void cut(std::string_view word, std::vector<int32_t>& out) const {
    const auto begins_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
    const size_t before = out.size();
    bool known = std::count_if(word.begin(), word.end(), begins_character) <= vocabulary_.max_characters;
    for (size_t begin = 0, end = 0; known && begin < word.size(); begin = end) {
      const auto& pieces = begin == 0 ? beginnings_ : continuations_;
      const auto* found = static_cast<const std::pair<const std::string_view, int32_t>*>(nullptr);
      for (end = word.size(); end > begin; --end) {
        if (end < word.size() && !begins_character(word[end])) continue;
        const auto piece = pieces.find(word.substr(begin, end - begin));
        if (piece == pieces.end()) continue;
        found = &*piece;
        break;
      }
      known = found != nullptr;
      if (known) out.push_back(found->second);
    }
    if (known) return;
    out.resize(before);
    out.push_back(vocabulary_.unknown);
  }

  std::unordered_map<std::string_view, int32_t> beginnings_, continuations_;  // views of vocabulary_
  AddedTokens verbatim_, normalized_;
  mutable ScratchPool<WordCache> words_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_word_piece_tokenizer(WordPieceVocabulary vocabulary) {
  return std::make_unique<WordPieceTokenizer>(std::move(vocabulary));
}

}  // namespace zerostep
